"""The one door to TensorRT: 8.2 as on a Jetson TX2, to 10, and TensorRT-RTX. Asks what a library has, if that tells.

Names and arguments are those of NVIDIA's Python bindings: https://github.com/NVIDIA/TensorRT, python/src/infer/
pyCore.cpp and python/src/parsers/pyOnnx.cpp, at commit 052281f for 8.2; those of tensorrt-cu12-bindings 10.16 and of
tensorrt-rtx-cu13-bindings 1.7 as installed. What differs between them:

    workspace      IBuilderConfig.max_workspace_size until 8.3, set_memory_pool_limit from 8.4
    network        EXPLICIT_BATCH is asked for until 9; from 10 there is nothing else
    precision      BuilderFlag.FP16 and INT8 in 8 to 10; RTX and 11 take types from the ONNX alone
    progress       IProgressMonitor from 8.6; log lines before
    parser errors  name the node from 10; before, they give its number only, which is what is used here
    timing cache   does nothing in RTX, which compiles where it runs
"""

import importlib
import signal
import threading
from contextlib import contextmanager
from typing import Any, Iterator, List, NamedTuple, Optional

from deploy.decode_part import Step, is_decode
from deploy.errors import UserError, refuse
from deploy.onnx_graph import OnnxFile
from deploy.tensorrt_log import Listener, make_logger, make_monitor

# TensorRT where there is one; RTX under the name of its full package, then under that of its bindings' own wheel.
LIBRARIES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")

# Raised whenever something else is asked of TensorRT for the same options: engines of before are built again then.
BUILDER = 1

_MEMORY_WORDS = ("out of memory", "outofmemory", "out_of_memory", "bad_alloc", "insufficient workspace", "memory alloc")


class BuildOptions(NamedTuple):
    """precision: fp32, fp16 or int8. fills_with_half: whether int8 may use half precision where that is faster.

    workspace: bytes that a layer may use at most; None for the library's own limit.
    target: compute capability such as "8.6" to build for without its GPU, RTX only; None for the GPU here.
    """

    precision: str
    fills_with_half: bool
    workspace: Optional[int]
    target: Optional[str]


class TensorRt:
    """One TensorRT library. name, version: for keys and messages.

    is_rtx: whether engines are compiled where they run. is_strongly_typed: whether types come from the ONNX alone.
    """

    def __init__(self, module: Any, name: str) -> None:
        self.module, self.name = module, name
        self.version = str(module.__version__)
        self.is_rtx = name == "tensorrt_rtx"
        self.is_strongly_typed = not hasattr(module.BuilderFlag, "FP16")

    def __str__(self) -> str:
        return "{} {}".format("TensorRT-RTX" if self.is_rtx else "TensorRT", self.version)

    def build(
        self, model: OnnxFile, options: BuildOptions, listener: Listener, calibrator: Any = None, timing: bytes = b""
    ) -> "Built":
        """Build an engine. timing: a timing cache of an earlier build, which a foreign one is not.

        Raises UserError: the parser refuses the model, or the builder finds no engine.
        """
        monitor = make_monitor(self.module, listener)
        logger = make_logger(self.module, listener, says_layers=monitor is None)
        builder = self._made(self.module.Builder, logger, listener)
        network = self._parse(builder, model, logger)
        config = builder.create_builder_config()
        self._configure(builder, config, options)
        if options.precision != "fp32" and not self.is_strongly_typed:
            _keep_decode_in_float32(self.module, network)
        if calibrator is not None:
            config.int8_calibrator = calibrator
        if monitor is not None:
            config.progress_monitor = monitor
        has_timing = not self.is_rtx and _set_timing_cache(config, timing)
        with _dies_of_interrupt(monitor is None):
            plan = builder.build_serialized_network(network, config)
        listener.raise_failure()
        if plan is None:
            raise _build_error(self, model, listener)
        kept = config.get_timing_cache() if has_timing else None
        return Built(bytes(memoryview(plan)), b"" if kept is None else bytes(memoryview(kept.serialize())))

    def runtime(self, listener: Listener) -> Any:
        """What loads engines; keep it as long as they are used."""
        return self._made(self.module.Runtime, make_logger(self.module, listener, says_layers=False), listener)

    def _made(self, kind: Any, logger: Any, listener: Listener) -> Any:
        """A builder or runtime; where CUDA gives it no memory, pybind11 raises TypeError for the missing object."""
        try:
            return kind(logger)
        except TypeError:
            reason = listener.errors[0][:300] if listener.errors else "it does not say why"
            raise refuse(self, "does not start ({})".format(reason), "check the GPU's driver and its memory") from None

    def _parse(self, builder: Any, model: OnnxFile, logger: Any) -> Any:
        creation = self.module.NetworkDefinitionCreationFlag
        is_asked = hasattr(creation, "EXPLICIT_BATCH") and int(self.version.split(".")[0]) < 10
        network = builder.create_network(1 << int(creation.EXPLICIT_BATCH) if is_asked else 0)
        parser = self.module.OnnxParser(network, logger)
        if not parser.parse(model.content):
            raise _parser_error(model, parser)
        if network.num_inputs == 0 or network.num_outputs == 0:
            raise refuse(model.path, "TensorRT finds no inputs or no outputs in it", "export it again")
        return network

    def _configure(self, builder: Any, config: Any, options: BuildOptions) -> None:
        flag = self.module.BuilderFlag
        config.clear_flag(flag.TF32)  # 10 bits of mantissa are not what fp32 says
        if options.workspace is not None and hasattr(config, "set_memory_pool_limit"):
            config.set_memory_pool_limit(self.module.MemoryPoolType.WORKSPACE, options.workspace)
        elif options.workspace is not None:
            config.max_workspace_size = options.workspace
        if options.target is not None:
            self._set_target(config, options.target)
        if self.is_strongly_typed or options.precision == "fp32":
            return
        if options.precision == "fp16" and not builder.platform_has_fast_fp16:
            raise refuse("fp16", "this GPU has no fast half precision", "build with fp32")
        if options.precision == "fp16" or (options.fills_with_half and builder.platform_has_fast_fp16):
            config.set_flag(flag.FP16)
        if options.precision == "int8":
            if not builder.platform_has_fast_int8:
                raise refuse("int8", "this GPU has no fast 8-bit arithmetic", "build with fp16 or fp32")
            config.set_flag(flag.INT8)
        config.set_flag(flag.PREFER_PRECISION_CONSTRAINTS)

    def _set_target(self, config: Any, target: str) -> None:
        known = getattr(self.module, "ComputeCapability", None)
        if known is None:
            raise refuse(target, "{} builds for the GPU it runs on".format(self), "build on that machine")
        name = "SM" + target.replace(".", "")
        if not hasattr(known, name):
            names = ", ".join(entry for entry in sorted(dir(known)) if entry.startswith("SM"))
            raise refuse(target, "{} does not build for it".format(self), "it knows " + names)
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(known, name), 0)


class Built(NamedTuple):
    """plan: the engine's bytes. timing: the timing cache after the build, empty where there is none."""

    plan: bytes
    timing: bytes


def load_tensorrt(name: Optional[str] = None) -> TensorRt:
    """Import TensorRT: the library `name`, or the first of `LIBRARIES` that is installed.

    Raises UserError where there is none, or where it does not load.
    """
    for module_name in LIBRARIES if name is None else (name,):
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            if getattr(error, "name", None) == module_name:
                continue
            raise refuse(module_name, "cannot be loaded ({})".format(error), "install it again") from None
        return TensorRt(module, module_name.replace("_bindings", ""))
    where = "it comes with JetPack on a Jetson; elsewhere pip install tensorrt"
    raise UserError("{}: not installed; {}".format(name or "tensorrt", where))


def decode_layers(module: Any, network: Any) -> List[Any]:
    """The layers behind the last convolutions, which make boxes of the raw heads."""
    names = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "FULLY_CONNECTED")
    weighted = {getattr(module.LayerType, name) for name in names if hasattr(module.LayerType, name)}
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    steps = [Step(_names(layer, "input"), _names(layer, "output"), layer.type in weighted) for layer in layers]
    return [layer for layer, decodes in zip(layers, is_decode(steps)) if decodes]


def _keep_decode_in_float32(module: Any, network: Any) -> None:
    """Ask for float32 there. Which layers take a precision at all: NVIDIA's sampleINT8API, setLayerPrecision."""
    kinds = module.LayerType
    for layer in decode_layers(module, network):
        outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
        if any(tensor.dtype != module.float32 for tensor in outputs):
            continue
        if layer.type not in (kinds.CONSTANT, kinds.CONCATENATION, kinds.SHAPE):
            layer.precision = module.float32
        for index, tensor in enumerate(outputs):
            if tensor.is_execution_tensor:
                layer.set_output_type(index, module.float32)


def _names(layer: Any, side: str) -> Any:
    tensors = [getattr(layer, "get_" + side)(index) for index in range(getattr(layer, "num_{}s".format(side)))]
    return [tensor.name for tensor in tensors if tensor is not None]


def _set_timing_cache(config: Any, content: bytes) -> bool:
    """Start from an earlier build's times; from none where they are another machine's or broken."""
    for candidate in (content, b"") if content else (b"",):
        cache = config.create_timing_cache(candidate)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return True
    return False


@contextmanager
def _dies_of_interrupt(is_deaf: bool) -> Iterator[None]:
    """Let Ctrl-C end the process at once where the builder cannot be asked to stop; nothing is on disk by then.

    Not where somebody else handles Ctrl-C, nor in another thread than the main one.
    """
    is_ours = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if is_deaf and is_ours else None
    if before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _parser_error(model: OnnxFile, parser: Any) -> UserError:
    """The first error in one line: node, operator, reason."""
    if parser.num_errors == 0:
        return refuse(model.path, "TensorRT cannot parse it and does not say why", "export it again")
    error = parser.get_error(0)
    reason = "{}: {}".format(str(error.code()).split(".")[-1], " ".join(error.desc().split())[:300])
    number = error.node()
    more = " (and {} more)".format(parser.num_errors - 1) if parser.num_errors > 1 else ""
    if not 0 <= number < len(model.nodes):
        return refuse(model.path, "TensorRT cannot parse it: {}{}".format(reason, more), "export it again")
    node = model.nodes[number]  # before 10 the error itself names neither
    found = "node {} {} ({}): {}{}".format(number, node.name or "without a name", node.operator, reason, more)
    return refuse(model.path, found, "export without this operator; skylight export lint names what the board reads")


def _build_error(library: TensorRt, model: OnnxFile, listener: Listener) -> UserError:
    reason = listener.errors[0][:300] if listener.errors else "it does not say why"
    if any(word in line.lower() for line in listener.errors for word in _MEMORY_WORDS):
        return refuse(
            model.path, "not enough memory to build an engine ({})".format(reason), "stop other programs and try again"
        )
    return refuse(model.path, "{} found no engine: {}".format(library, reason), "try another precision")
