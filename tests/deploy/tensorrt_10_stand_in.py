"""A stand-in for TensorRT 10's Python module, as far as it differs from that for 8.2 where the drone meets it.

Names after the bindings of tensorrt-cu12-bindings 10.16, whose documentation strings name them, and NVIDIA's migration
guide from 8 to 10: no max_workspace_size, no build_engine, no bindings by number; memory pools, progress monitors and
tensors by name. The network is explicit whatever the flags say, and its types are still weak unless asked otherwise.
"""

from typing import Any, Optional

import stand_in_engine
import tensorrt_8_2_stand_in as older
from stand_in_engine import Executor, make_plan
from tensorrt_8_2_stand_in import (  # noqa: F401
    BuilderFlag,
    ErrorCode,
    IInt8EntropyCalibrator2,
    ILogger,
    LayerType,
    Logger,
    OnnxParser,
    float32,
)

_Enum, _IntEnum = older._Enum, older._IntEnum

__version__ = "10.3.0"

_CREATION = "EXPLICIT_BATCH STRONGLY_TYPED"
NetworkDefinitionCreationFlag = _IntEnum("NetworkDefinitionCreationFlag", _CREATION, start=0)
MemoryPoolType = _Enum("MemoryPoolType", "WORKSPACE DLA_MANAGED_SRAM DLA_LOCAL_DRAM DLA_GLOBAL_DRAM TACTIC_DRAM")
TensorIOMode = _Enum("TensorIOMode", "NONE INPUT OUTPUT")


class IProgressMonitor:
    def __init__(self) -> None:
        pass


class IBuilderConfig(older._Bound):
    _SETTABLE = "int8_calibrator progress_monitor builder_optimization_level max_aux_streams flags"
    set_flag: Any = older.IBuilderConfig.set_flag
    clear_flag: Any = older.IBuilderConfig.clear_flag
    get_flag: Any = older.IBuilderConfig.get_flag
    create_timing_cache: Any = older.IBuilderConfig.create_timing_cache
    set_timing_cache: Any = older.IBuilderConfig.set_timing_cache
    get_timing_cache: Any = older.IBuilderConfig.get_timing_cache

    def __init__(self) -> None:
        self.flags, self.int8_calibrator, self.progress_monitor = 1 << BuilderFlag.TF32, None, None
        self._timing = None  # type: Any
        self._pools = {}  # type: Any

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._pools[pool] = pool_size


class Builder(older._Bound):
    platform_has_fast_fp16, platform_has_fast_int8 = True, True

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int = 0) -> older.INetworkDefinition:
        return older.INetworkDefinition(flags)

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def build_serialized_network(self, network: older.INetworkDefinition, config: IBuilderConfig) -> Any:
        monitor: Optional[Any] = config.progress_monitor
        if monitor is not None:
            monitor.phase_start("Building Engine", None, network.num_layers)
            for step in range(network.num_layers):
                if not monitor.step_complete("Building Engine", step):
                    return None
            monitor.phase_finish("Building Engine")
        names = [flag.name for flag in BuilderFlag if config.get_flag(flag)]
        asked = {"flags": names, "workspace": config._pools[MemoryPoolType.WORKSPACE], "network": network._flags}
        asked["float32"] = [layer.name for layer in network._layers if layer._sets]
        if "INT8" in names:
            asked["calibration"] = stand_in_engine.calibrate(config.int8_calibrator)
        return older._memory(make_plan(network._content, asked))


class IExecutionContext(older._Bound):
    def __init__(self, executor: Executor) -> None:
        self._executor, self._addresses = executor, {}  # type: ignore[var-annotated]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        return self._executor.run(self._addresses)


class ICudaEngine(older._Bound):
    def __init__(self, executor: Executor) -> None:
        self._tensors = {name: (shape, is_input) for name, shape, is_input in executor.tensors}
        self._executor = executor

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_shape(self, name: str) -> Any:
        return self._tensors[name][0]

    def get_tensor_mode(self, name: str) -> Any:
        return TensorIOMode.INPUT if self._tensors[name][1] else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return float32

    def create_execution_context(self) -> IExecutionContext:
        return IExecutionContext(self._executor)


class Runtime(older._Bound):
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        return ICudaEngine(Executor(bytes(memoryview(serialized_engine))))
