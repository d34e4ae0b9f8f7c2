"""A stand-in for TensorRT 8.2's Python module: exactly its names and arguments for what building and running need.

Written after NVIDIA's bindings of 8.2 (https://github.com/NVIDIA/TensorRT at commit 052281f, python/src/infer/
pyCore.cpp and python/src/parsers/pyOnnx.cpp; pyInt8.cpp and pyGraph.cpp, whose names used here did not change from 8.0
to 10) and their documentation (https://docs.nvidia.com/deeplearning/tensorrt/archives/tensorrt-825/api/python_api/).
As there, any other name raises AttributeError, also when it is set; what 8.2 has and the drone never uses is there and
says so when asked for. Runs on Python 3.6, as 8.2 does on a TX2. It builds nothing: see stand_in_engine.py.
"""

import enum
from typing import Any, List

import stand_in_engine
from stand_in_engine import OPERATORS, Executor, make_plan, read_model

_Enum: Any = enum.Enum
_IntEnum: Any = enum.IntEnum

__version__ = "8.2.1.8"

_CREATION = "EXPLICIT_BATCH EXPLICIT_PRECISION"
NetworkDefinitionCreationFlag = _IntEnum("NetworkDefinitionCreationFlag", _CREATION, start=0)
_FLAGS = (
    "FP16 INT8 DEBUG GPU_FALLBACK STRICT_TYPES REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS SAFETY_SCOPE "
    "OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS DIRECT_IO REJECT_EMPTY_ALGORITHMS"
)
BuilderFlag = _IntEnum("BuilderFlag", _FLAGS, start=0)
DataType = _Enum("DataType", "FLOAT HALF INT8 INT32 BOOL")
_LAYERS = (
    "CONVOLUTION FULLY_CONNECTED ACTIVATION POOLING LRN SCALE SOFTMAX DECONVOLUTION CONCATENATION ELEMENTWISE PLUGIN "
    "UNARY PADDING SHUFFLE REDUCE TOPK GATHER MATRIX_MULTIPLY RAGGED_SOFTMAX CONSTANT RNN_V2 IDENTITY PLUGIN_V2 SLICE "
    "SHAPE PARAMETRIC_RELU RESIZE TRIP_LIMIT RECURRENCE ITERATOR LOOP_OUTPUT SELECT FILL QUANTIZE DEQUANTIZE CONDITION "
    "CONDITIONAL_INPUT CONDITIONAL_OUTPUT SCATTER EINSUM ASSERTION"
)
LayerType = _Enum("LayerType", _LAYERS)
float32, float16, int8, int32 = DataType.FLOAT, DataType.HALF, DataType.INT8, DataType.INT32


class _Bound:
    """An object of a C++ class: what the class does not have cannot be set either. `_UNUSED` is there, and unused."""

    _UNUSED = ""
    _SETTABLE = ""

    def __init_subclass__(cls) -> None:
        for name in cls._UNUSED.split():
            setattr(cls, name, property(_unused(name)))

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in self._SETTABLE.split():
            raise AttributeError("'{}' object has no attribute '{}'".format(type(self).__name__, name))
        object.__setattr__(self, name, value)


def _unused(name: str) -> Any:
    def getter(_self: Any) -> None:
        raise NotImplementedError("the stand-in does nothing for {}".format(name))

    return getter


class ILogger:
    Severity = _IntEnum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE", start=0)

    def __init__(self) -> None:
        pass

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError("Tried to call pure virtual function ILogger::log")


class Logger(ILogger):
    Severity = ILogger.Severity
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = ILogger.Severity

    def __init__(self, min_severity: Any = ILogger.Severity.WARNING) -> None:
        self.min_severity = min_severity

    def log(self, severity: Any, msg: str) -> None:
        pass


class IInt8EntropyCalibrator2:
    def __init__(self) -> None:
        pass

    def get_algorithm(self) -> str:
        return "ENTROPY_CALIBRATION_2"


def _memory(content: bytes) -> Any:
    """IHostMemory has the buffer protocol, which Python 3.6 gives to no class of its own: bytes have it."""
    return type("IHostMemory", (bytes,), {"nbytes": property(len)})(content)


class ITensor(_Bound):
    _UNUSED = "is_network_input is_network_output dynamic_range broadcast_across_batch location is_shape_tensor "
    _UNUSED += "get_dynamic_range set_dynamic_range reset_dynamic_range allowed_formats shape"
    _SETTABLE = "name dtype"
    is_execution_tensor = True

    def __init__(self, name: str, dtype: Any) -> None:
        self.name, self.dtype = name, dtype


class ILayer(_Bound):
    _UNUSED = "precision_is_set reset_precision get_output_type output_type_is_set reset_output_type set_input"
    _SETTABLE = "name precision"

    def __init__(self, name: str, kind: Any, inputs: List[ITensor], outputs: List[ITensor]) -> None:
        self._kind, self._inputs, self._outputs, self._types = kind, inputs, outputs, {}  # type: ignore[var-annotated]
        self.name, self.precision = name, float32

    @property
    def type(self) -> Any:
        return self._kind

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        return len(self._outputs)

    def get_input(self, index: int) -> Any:
        return self._inputs[index]

    def get_output(self, index: int) -> Any:
        return self._outputs[index]

    def set_output_type(self, index: int, dtype: Any) -> None:
        self._types[index] = dtype

    def __setattr__(self, name: str, value: Any) -> None:
        _Bound.__setattr__(self, name, value)
        if name == "precision":
            object.__setattr__(self, "_sets", getattr(self, "_sets", -1) + 1)


class INetworkDefinition(_Bound):
    _UNUSED = "has_implicit_batch_dimension has_explicit_precision mark_output add_input add_convolution get_output "
    _UNUSED += "remove_tensor unmark_output error_recorder get_input"
    _SETTABLE = "name"

    def __init__(self, flags: int) -> None:
        self._flags, self._layers, self._content = flags, [], b""  # type: ignore[var-annotated]

    @property
    def num_layers(self) -> int:
        return len(self._layers)

    @property
    def num_inputs(self) -> int:
        return 1 if self._layers else 0

    @property
    def num_outputs(self) -> int:
        return 2 if self._layers else 0

    def get_layer(self, index: int) -> ILayer:
        return self._layers[index]


class ErrorCode(enum.Enum):
    SUCCESS, INTERNAL_ERROR, MEM_ALLOC_FAILED, MODEL_DESERIALIZE_FAILED = 0, 1, 2, 3
    INVALID_VALUE, INVALID_GRAPH, INVALID_NODE, UNSUPPORTED_GRAPH, UNSUPPORTED_NODE = 4, 5, 6, 7, 8

    def __str__(self) -> str:
        return self.name


class ParserError(_Bound):
    def __init__(self, code: ErrorCode, desc: str, node: int) -> None:
        self._values = code, desc, node

    def code(self) -> ErrorCode:
        return self._values[0]

    def desc(self) -> str:
        return self._values[1]

    def node(self) -> int:
        return self._values[2]

    def file(self) -> str:
        return "builtin_op_importers.cpp"

    def line(self) -> int:
        return 4870

    def func(self) -> str:
        return "importFallbackPluginImporter"


class OnnxParser(_Bound):
    _UNUSED = "parse_with_weight_descriptors parse_from_file supports_operator supports_model"

    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network, self._errors = network, []  # type: ignore[var-annotated]

    def parse(self, model: Any, path: Any = None) -> int:
        content = bytes(memoryview(model))
        nodes = read_model(content).nodes
        text = 'Assertion failed: creator && "Plugin not found, are the plugin name, version, and namespace correct?"'
        unknown = [index for index, node in enumerate(nodes) if node.operator not in OPERATORS]
        self._errors += [ParserError(ErrorCode.UNSUPPORTED_NODE, text, index) for index in unknown]
        if not unknown:
            kinds = {"Conv": LayerType.CONVOLUTION, "Constant": LayerType.CONSTANT, "Concat": LayerType.CONCATENATION}
            for node in nodes:
                inputs, outputs = ([ITensor(name, float32) for name in side] for side in (node.inputs, node.outputs))
                kind = kinds.get(node.operator, LayerType.ELEMENTWISE)
                self._network._layers.append(ILayer(node.name, kind, inputs, outputs))
            self._network._content = content
        return not unknown

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def clear_errors(self) -> None:
        self._errors.clear()


class ITimingCache(_Bound):
    _UNUSED = "combine reset"

    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> Any:
        return _memory(self._content)


class IBuilderConfig(_Bound):
    _UNUSED = "quantization_flags clear_quantization_flag set_quantization_flag get_quantization_flag reset "
    _UNUSED += "add_optimization_profile set_calibration_profile get_calibration_profile num_optimization_profiles "
    _UNUSED += "set_device_type get_device_type is_device_type_set reset_device_type can_run_on_DLA "
    _UNUSED += "set_tactic_sources get_tactic_sources"
    _SETTABLE = (
        "min_timing_iterations avg_timing_iterations int8_calibrator engine_capability max_workspace_size flags "
    )
    _SETTABLE += "default_device_type DLA_core profile_stream profiling_verbosity algorithm_selector"

    def __init__(self) -> None:
        self.flags, self.max_workspace_size, self.int8_calibrator = 1 << BuilderFlag.TF32, 0, None
        self._timing = None  # type: Any

    def set_flag(self, flag: Any) -> None:
        self.flags |= 1 << BuilderFlag(flag)

    def clear_flag(self, flag: Any) -> None:
        self.flags &= ~(1 << BuilderFlag(flag))

    def get_flag(self, flag: Any) -> Any:
        return self.flags >> flag & 1 == 1

    def create_timing_cache(self, serialized_timing_cache: Any) -> ITimingCache:
        return ITimingCache(bytes(memoryview(serialized_timing_cache)))

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: Any) -> Any:
        if cache._content and not cache._content.startswith(b"times of 8.2"):
            return False
        self._timing = cache
        return True

    def get_timing_cache(self) -> Any:
        return self._timing


class Builder(_Bound):
    _UNUSED = "max_batch_size platform_has_tf32 max_DLA_batch_size num_DLA_cores gpu_allocator error_recorder "
    _UNUSED += "create_optimization_profile build_engine is_network_supported logger reset"
    platform_has_fast_fp16, platform_has_fast_int8 = True, False

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        return INetworkDefinition(flags)

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> Any:
        severity = ILogger.Severity
        if network._flags != 1 << NetworkDefinitionCreationFlag.EXPLICIT_BATCH or not config.max_workspace_size:
            self._logger.log(severity.ERROR, "4: [network.cpp::validate::2411] Error Code 4: Internal Error (no batch)")
            return None
        for layer in network._layers:
            if layer.type is LayerType.CONVOLUTION:
                self._logger.log(
                    severity.VERBOSE, "--------------- Timing Runner: {} (CudnnConvolution)".format(layer.name)
                )
        names = [flag.name for flag in BuilderFlag if config.get_flag(flag)]
        asked = {"flags": names, "workspace": config.max_workspace_size, "timing": config._timing._content.decode()}
        asked["float32"] = [layer.name for layer in network._layers if layer._sets]
        asked["outputs in float32"] = [layer.name for layer in network._layers if layer._types]
        if "INT8" in names:
            asked["calibration"] = stand_in_engine.calibrate(config.int8_calibrator)
            if asked["calibration"] is None:
                self._logger.log(severity.ERROR, "1: Unexpected exception: calibration failed")
                return None
        config._timing = ITimingCache(b"times of 8.2")
        return _memory(make_plan(network._content, asked))


class IExecutionContext(_Bound):
    _UNUSED = "execute execute_async execute_v2 device_memory active_optimization_profile get_strides get_shape "
    _UNUSED += "set_binding_shape get_binding_shape set_shape_input all_binding_shapes_specified engine "
    _UNUSED += "all_shape_inputs_specified set_optimization_profile_async error_recorder report_to_profiler"
    _SETTABLE = "debug_sync profiler name enqueue_emits_profile"

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def execute_async_v2(self, bindings: List[int], stream_handle: int, input_consumed: Any = None) -> Any:
        names = [name for name, _, _ in self._executor.tensors]
        assert len(bindings) == len(names)
        assert stream_handle
        return self._executor.run(dict(zip(names, bindings)))


class ICudaEngine(_Bound):
    _UNUSED = "has_implicit_batch_dimension max_batch_size num_layers serialize get_location device_memory_size name "
    _UNUSED += "create_execution_context_without_device_memory refittable num_optimization_profiles engine_capability "
    _UNUSED += "get_profile_shape get_profile_shape_input is_shape_binding is_execution_binding get_binding_index "
    _UNUSED += "get_binding_bytes_per_component get_binding_components_per_element get_binding_format error_recorder "
    _UNUSED += "get_binding_format_desc get_binding_vectorized_dim tactic_sources profiling_verbosity "
    _UNUSED += "create_engine_inspector"

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    @property
    def num_bindings(self) -> int:
        return len(self._executor.tensors)

    def get_binding_name(self, index: int) -> str:
        return self._executor.tensors[index][0]

    def get_binding_shape(self, index: int) -> Any:
        return self._executor.tensors[index][1]

    def binding_is_input(self, index: int) -> Any:
        return self._executor.tensors[index][2]

    def get_binding_dtype(self, index: int) -> Any:
        return float32

    def create_execution_context(self) -> IExecutionContext:
        return IExecutionContext(self._executor)


class Runtime(_Bound):
    _UNUSED = "num_DLA_cores gpu_allocator error_recorder logger"
    _SETTABLE = "DLA_core"

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        plan = bytes(memoryview(serialized_engine))
        if not plan.startswith(stand_in_engine.MAGIC):
            text = (
                "1: [stdArchiveReader.cpp::StdArchiveReader::35] Error Code 1: Serialization (Magic tag does not match)"
            )
            self._logger.log(ILogger.Severity.ERROR, text)
            return None
        return ICudaEngine(Executor(plan))
