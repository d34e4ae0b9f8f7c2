"""An ONNX file becomes a TensorRT engine for this machine; a built one is used again while everything is the same.

A script over the parts: what may be built, what lies there already, build, keep.
"""

import time
from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from deploy.calibrate import Calibration, Feeder, calibration_file, make_calibrator
from deploy.cuda import Cuda, Device
from deploy.engine_cache import EngineKey, find_engine, keep_engine, l4t_release, require_space, write_file
from deploy.errors import refuse
from deploy.manifest import PRECISIONS
from deploy.onnx_graph import OnnxFile, read_onnx
from deploy.tensorrt import BUILDER, BuildOptions, TensorRt, load_tensorrt
from deploy.tensorrt_log import Listener, Progress

_MIB = 2**20
# Below this a build of even Tiny-YOLOv3 is killed half-way on a board whose GPU shares the memory.
_LEAST_FREE = 512 * _MIB
_MOST_WORKSPACE = 2048 * _MIB


class Engine(NamedTuple):
    """An engine on disk that fits its key. sha256: of its bytes. is_new: whether it was built just now.

    facts: how it was built: seconds, workspace (bytes or None), bytes, calibration_frames, and why it was.
    """

    path: Path
    sha256: str
    key: EngineKey
    is_new: bool
    facts: Dict[str, Any]


def build_engine(
    onnx: Path,
    folder: Path,
    precision: str = "fp16",
    board: Optional[Mapping[str, Any]] = None,
    calibration: Optional[Calibration] = None,
    workspace: Optional[int] = None,
    target: Optional[str] = None,
    library: Optional[TensorRt] = None,
    cuda: Optional[Cuda] = None,
    progress: Optional[Progress] = None,
) -> Engine:
    """Return the engine `folder/<name of the ONNX>-<precision>.engine`, built unless it is there and fits.

    folder: of this bundle alone, since engines are named after their ONNX file.
    precision: fp32, fp16 or int8. board: the bundle's entry, of which name, precisions (a list) and
    missing_precisions (the reason for each other) are read; None refuses nothing.
    calibration: frames for int8. workspace: bytes; by default a share of what is free.
    target: compute capability such as "8.6", to build without that GPU (TensorRT-RTX only).
    library, cuda: those of this machine, by default.

    Raises UserError: no TensorRT, a precision that the board or the library has not, a file that is no ONNX or that
    the parser refuses, too little memory or space. Nothing is written then; a fitting older engine stays.
    """
    require_precision(precision, board)
    model = read_onnx(onnx)
    library = library or load_tensorrt()
    _check_types(library, model, precision, calibration)
    cuda = cuda or (Cuda() if target is None else None)
    device = _device(cuda, target)
    fills_with_half = _allows(board, "fp16")
    key = _key(library, model, device, precision, workspace, target, calibration, fills_with_half)
    path = Path(folder) / "{}-{}.engine".format(Path(onnx).stem, precision)
    found = find_engine(path, key)
    if found.sha256 is not None:
        return Engine(path, found.sha256, key, False, found.facts)
    listener = Listener(progress)
    listener.say("{}: {}; building".format(path.name, found.reason), 0, 0)
    listener.raise_failure()
    require_space(Path(folder), len(model.content) + 16 * _MIB)
    size = workspace or share_of(device.free_bytes)
    build = BuildOptions(precision, fills_with_half, size, target)
    started = time.monotonic()
    plan, frames = _build(library, model, build, listener, calibration, cuda, Path(folder))
    facts = {
        "seconds": round(time.monotonic() - started, 1),
        "workspace": size,
        "bytes": len(plan),
        "calibration_frames": frames,
        "built_because": found.reason,
    }
    return Engine(path, keep_engine(path, plan, key, facts), key, True, facts)


def require_precision(precision: str, board: Optional[Mapping[str, Any]]) -> None:
    """Refuse a precision that is none, or that the board has not, and say why."""
    if precision not in PRECISIONS:
        raise refuse("precision", precision, "allowed: " + ", ".join(PRECISIONS))
    if board is not None and not _allows(board, precision):
        reason = board.get("missing_precisions", {}).get(precision, "its file does not name it")
        allowed = [name for name in PRECISIONS if _allows(board, name)]
        raise refuse("{}: {}".format(board["name"], precision), reason, "allowed: " + ", ".join(allowed))


def share_of(free: Optional[int]) -> Optional[int]:
    """Workspace for the builder: half of what is free, 2 GiB at most; the rest holds weights and the program itself.

    free: bytes, or None where nobody knows, which leaves it to the library.
    Returns bytes. Raises UserError where too little is free to build.
    """
    if free is None:
        return None
    if free < _LEAST_FREE:
        found = "{} MiB of memory free, building needs {} MiB".format(free // _MIB, _LEAST_FREE // _MIB)
        raise refuse("memory", found, "stop other programs, the desktop first")
    return min(free // 2, _MOST_WORKSPACE)


def _allows(board: Optional[Mapping[str, Any]], precision: str) -> bool:
    return board is None or precision in board.get("precisions", ())


def _check_types(library: TensorRt, model: OnnxFile, precision: str, calibration: Optional[Calibration]) -> None:
    """Refuse a file whose types cannot give the precision with this library."""
    if precision == "int8" and library.is_strongly_typed:
        raise refuse("int8", "{} takes types from the ONNX and calibrates nothing".format(library), "build with fp16")
    if precision == "int8" and calibration is None:
        raise refuse("int8", "no calibration frames", "give frames of the curated set")
    if precision == "fp32" and model.has_half_weights:
        raise refuse(model.path, "has weights in half precision", "build fp32 from the file it was made of")
    if precision == "fp16" and library.is_strongly_typed and not model.has_half_weights:
        remedy = "give the model that the export wrote in half precision"
        raise refuse(model.path, "is float32, and {} takes types from the ONNX".format(library), remedy)


def _device(cuda: Optional[Cuda], target: Optional[str]) -> Device:
    if target is not None or cuda is None:
        return Device("any of compute capability {}".format(target), str(target), None)
    return cuda.device()


def _key(
    library: TensorRt,
    model: OnnxFile,
    device: Device,
    precision: str,
    workspace: Optional[int],
    target: Optional[str],
    calibration: Optional[Calibration],
    fills_with_half: bool,
) -> EngineKey:
    """A workspace that was not asked for is no part of the key: free memory differs from start to start."""
    options = {"workspace": workspace, "tf32": False, "target": target, "calibration": None}  # type: Dict[str, Any]
    if calibration is not None and precision == "int8":
        options["calibration"] = calibration.digest
        options["fills_with_half"] = fills_with_half
    return EngineKey(
        onnx_sha256=model.sha256,
        library=library.name,
        version=library.version,
        builder=BUILDER,
        gpu=device.name,
        compute_capability=device.compute_capability,
        l4t=l4t_release(),
        precision=precision,
        options=options,
    )


def _build(
    library: TensorRt,
    model: OnnxFile,
    options: BuildOptions,
    listener: Listener,
    calibration: Optional[Calibration],
    cuda: Optional[Cuda],
    folder: Path,
) -> Tuple[bytes, int]:
    """The plan, and on how many frames it was calibrated. Keeps the timing cache for the next build."""
    timing_file = folder / "timing-{}-{}.cache".format(library.name, library.version)
    timing = timing_file.read_bytes() if timing_file.is_file() else b""
    frames = 0
    if calibration is None or cuda is None or options.precision != "int8":
        built = library.build(model, options, listener, None, timing)
    else:
        cache = calibration_file(folder, model.sha256, library.version, calibration)
        with Feeder(calibration, model.input_shape, cuda) as feeder:
            feeder.require_frames(cache)
            calibrator = make_calibrator(library.module, feeder, cache, listener)
            built = library.build(model, options, listener, calibrator, timing)
        frames = feeder.used
        if frames and feeder.result:
            write_file(cache, feeder.result)
    if built.timing and built.timing != timing:
        write_file(timing_file, built.timing)
    return built.plan, frames
