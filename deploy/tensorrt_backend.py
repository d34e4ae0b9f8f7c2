"""What runs the network on a GPU: a TensorRT engine, through bindings by number until 8.4, by tensor name from 8.5.

On a GPU that shares the CPU's memory it works on mapped host memory and copies nothing; elsewhere it copies from and
to pinned memory. Knows nothing of pictures, nor of how the engine came to be.
"""

import hashlib
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from deploy.backends.contract import Backend, check_contract
from deploy.cuda import Cuda
from deploy.engine import Engine
from deploy.errors import refuse
from deploy.tensorrt import TensorRt, load_tensorrt
from deploy.tensorrt_log import Listener

Shapes = Dict[str, List[int]]
# Names in the engine's order, shapes of inputs, shapes of outputs, types as ONNX Runtime calls them.
Interface = Tuple[List[str], Shapes, Shapes, List[str]]


class TensorRtBackend(Backend):
    """An engine on the first GPU, with its own stream and memory. precision: that the engine was built for.

    Raises UserError: the file is not the one that was built, TensorRT does not load it, or it breaks the contract.
    """

    kind = "tensorrt"

    def __init__(self, engine: Engine, library: Optional[TensorRt] = None, cuda: Optional[Cuda] = None) -> None:
        library = library or load_tensorrt(engine.key.library)
        self._cuda = cuda or Cuda()
        self._runtime, self._engine = _load(engine, library)
        names_tensors = hasattr(self._engine, "num_io_tensors")
        names, inputs, outputs, types = (_tensors if names_tensors else _bindings)(self._engine, library.module)
        self.name = "{} {} on {}".format(library, engine.key.precision, engine.key.gpu)
        self.precision = engine.key.precision
        self.height, self.width, self.classes = check_contract(engine.path, inputs, outputs, types)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise refuse(engine.path, "the GPU has no memory left to run it", "stop other programs")
        self._is_shared = self._cuda.device().shares_memory
        self._host: Dict[str, np.ndarray] = {}
        self._addresses: Dict[str, int] = {}  # for the GPU
        self._stream: Optional[int] = self._cuda.stream()
        try:
            for name in names:  # in the engine's order
                self._allocate(name, dict(inputs, **outputs)[name])
        except BaseException:
            self.close()
            raise
        self._run = self._run_tensors if names_tensors else self._run_bindings
        if names_tensors:
            for name, address in self._addresses.items():
                self._context.set_tensor_address(name, address)

    def _allocate(self, name: str, shape: List[int]) -> None:
        if self._is_shared:
            self._host[name], self._addresses[name] = self._cuda.mapped(shape)
        else:
            self._host[name] = self._cuda.pinned(shape)
            self._addresses[name] = self._cuda.allocate(self._host[name].nbytes)

    def infer(self, tensor: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """See Backend."""
        stream = self._stream or 0
        np.copyto(self._host["images"], tensor)
        if not self._is_shared:
            self._cuda.to_device(self._addresses["images"], self._host["images"], stream)
        if not self._run():
            raise refuse("TensorRT", "the engine did not run", "check the GPU's memory and its driver")
        if not self._is_shared:
            for name in ("boxes", "scores"):
                self._cuda.to_host(self._host[name], self._addresses[name], stream)
        self._cuda.wait(stream)
        return self._host["boxes"][0].copy(), self._host["scores"][0].copy()

    def close(self) -> None:
        """See Backend."""
        self._context = self._engine = self._runtime = None
        for address in () if self._is_shared else self._addresses.values():
            self._cuda.free(address)
        for array in self._host.values():
            self._cuda.unpin(array)
        self._addresses, self._host = {}, {}
        stream, self._stream = self._stream, None
        if stream is not None:
            self._cuda.destroy(stream)

    def _run_tensors(self) -> bool:
        return bool(self._context.execute_async_v3(stream_handle=self._stream))

    def _run_bindings(self) -> bool:
        return bool(self._context.execute_async_v2(bindings=list(self._addresses.values()), stream_handle=self._stream))


def _load(engine: Engine, library: TensorRt) -> Tuple[Any, Any]:
    """The runtime, which must outlive the engine, and the engine."""
    if (library.name, library.version) != (engine.key.library, engine.key.version):
        raise refuse(engine.path, "was built by {} {}, here is {}".format(*engine.key[1:3], library), "build it here")
    try:
        plan = engine.path.read_bytes()
    except OSError as error:
        raise refuse(engine.path, error.strerror or str(error), "build it again") from None
    if hashlib.sha256(plan).hexdigest() != engine.sha256:
        raise refuse(engine.path, "is cut off or changed since it was built", "build it again")
    listener = Listener(None)
    runtime = library.runtime(listener)
    loaded = runtime.deserialize_cuda_engine(plan)
    if loaded is None:
        reason = listener.errors[0][:300] if listener.errors else "it does not say why"
        raise refuse(engine.path, "{} cannot load it: {}".format(library, reason), "build it again")
    return runtime, loaded


def _tensors(engine: Any, module: Any) -> Interface:
    """What TensorRT 8.5 and newer say of an engine."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    shapes = {name: list(engine.get_tensor_shape(name)) for name in names}
    inputs = [name for name in names if engine.get_tensor_mode(name) == module.TensorIOMode.INPUT]
    types = [_type_name(module, engine.get_tensor_dtype(name)) for name in names]
    return _interface(names, shapes, inputs, types)


def _bindings(engine: Any, module: Any) -> Interface:
    """The same of TensorRT 8.2 to 8.4."""
    numbers = range(engine.num_bindings)
    names = [engine.get_binding_name(index) for index in numbers]
    shapes = {name: list(engine.get_binding_shape(index)) for index, name in enumerate(names)}
    inputs = [name for index, name in enumerate(names) if engine.binding_is_input(index)]
    return _interface(names, shapes, inputs, [_type_name(module, engine.get_binding_dtype(index)) for index in numbers])


def _interface(names: List[str], shapes: Shapes, inputs: List[str], types: List[str]) -> Interface:
    outputs = {name: shapes[name] for name in names if name not in inputs}
    return names, {name: shapes[name] for name in inputs}, outputs, types


def _type_name(module: Any, kind: Any) -> str:
    return "tensor(float)" if kind == module.float32 else str(kind)
