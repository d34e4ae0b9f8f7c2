"""Which library runs a bundle, and which of its models: TensorRT where there is a GPU, ONNX Runtime, OpenCV.

What is there is asked, not assumed, and what runs in the end is said in one line. One that should run and does not is
said loudly: on a drone the next one may be a hundred times slower.
"""

from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import cv2

from deploy.backends.contract import Backend
from deploy.backends.models import choose_model
from deploy.backends.onnx_runtime import OnnxRuntimeBackend, devices
from deploy.backends.opencv import OpenCvBackend
from deploy.bundle import Bundle
from deploy.calibration_frames import bundle_calibration
from deploy.engines import ENGINES, engine_folder
from deploy.errors import UserError, refuse
from deploy.events import Events
from deploy.tensorrt_log import Progress

AUTO = "auto"


class Choice(NamedTuple):
    """What the network is to run in.

    wanted: auto or one of KINDS. threads: for the CPU, None for all cores. cache: folder of engines, with a folder for
    each bundle. precision: fp32, fp16 or int8, None for the fastest that the board has and needs no calibration. model:
    the file that must run, None for the one that fits. progress: told of every step of building an engine, which takes
    minutes.
    """

    wanted: str = AUTO
    threads: Optional[int] = None
    cache: Path = ENGINES
    precision: Optional[str] = None
    model: Optional[str] = None
    progress: Optional[Progress] = None


class _Absent(UserError):  # noqa: N818  # no error where another library is there
    """The library, or what it runs on, is not on this machine."""


def open_backend(
    bundle: Bundle,
    choice: Optional[Choice] = None,
    events: Optional[Events] = None,
    size: Optional[Tuple[int, int]] = None,
) -> Backend:
    """Load a model of the bundle. size: (width, height) of its input, by default that of the bundle's first.

    `backend.model` is the file that was taken: golden frames are checked with `bundle.with_model(backend.model)`.

    Raises UserError: the wanted library is not there or does not load the model, or none does.
    """
    choice = choice or Choice()
    events = events or Events(stream=None)
    if choice.wanted not in (AUTO,) + KINDS:
        raise refuse("backend " + choice.wanted, "unknown", "allowed: " + ", ".join((AUTO,) + KINDS))
    size = size or (bundle.width, bundle.height)
    if choice.wanted != AUTO:
        backend = _OPENERS[choice.wanted](bundle, choice, events, size)
    else:
        backend = _first_that_loads(bundle, choice, events, size)
    try:
        _check_fit(bundle, backend, size)
    except UserError:
        backend.close()
        raise
    kind = "backend" if size == (bundle.width, bundle.height) else "backend.smaller"  # each is printed
    events.add("info", kind, "{} runs {} at {}x{}".format(backend.name, backend.model, *size))
    return backend


def _first_that_loads(bundle: Bundle, choice: Choice, events: Events, size: Tuple[int, int]) -> Backend:
    reasons = []
    for kind in KINDS:
        try:
            return _OPENERS[kind](bundle, choice, events, size)
        except _Absent as error:
            reasons.append(str(error))
            if kind == "tensorrt" and bundle.board.get("compute_capability"):
                text = "board {} has a GPU, but {}".format(bundle.board["name"], error)
                events.add("warning", "backend.missing", text)
        except (UserError, RuntimeError, OSError, MemoryError) as error:  # RuntimeError: what pybind11 makes of C++'s
            text = "{} does not run {}, the next library is tried: {}".format(kind, bundle.name, error)
            events.add("error", "backend.fallback", " ".join(text.split()))
            reasons.append(str(error))
    raise refuse(bundle.root, "no library here runs it ({})".format("; ".join(reasons)), "pip install onnxruntime")


def _tensorrt(bundle: Bundle, choice: Choice, events: Events, size: Tuple[int, int]) -> Backend:
    # Here, since deploy.tensorrt_backend is a Backend itself.
    from deploy.cuda import Cuda
    from deploy.engine import build_engine
    from deploy.tensorrt import load_tensorrt
    from deploy.tensorrt_backend import TensorRtBackend

    try:
        cuda = Cuda()
        library = load_tensorrt()
    except UserError as error:
        raise _Absent("tensorrt: {}".format(error)) from None
    chosen, precision = choose_model(bundle, size, choice, takes_types_from_file=library.is_strongly_typed)
    one = bundle.with_model(chosen.file)
    calibration = bundle_calibration(one) if precision == "int8" else None
    board = bundle.board if "precisions" in bundle.board else None
    folder = engine_folder(choice.cache, bundle)
    said = _Said(events, choice.progress)
    engine = build_engine(one.model, folder, precision, board, calibration, library=library, cuda=cuda, progress=said)
    backend = TensorRtBackend(engine, library, cuda)
    backend.model = chosen.file
    return backend


def _onnxruntime(bundle: Bundle, choice: Choice, events: Events, size: Tuple[int, int]) -> Backend:
    there = devices()
    if not there:
        raise _Absent("onnxruntime: not installed; pip install onnxruntime")
    for device in there:
        chosen, precision = choose_model(bundle, size, choice, takes_types_from_file=True, has_half=device == "CUDA")
        try:
            path = bundle.root / chosen.file
            backend = OnnxRuntimeBackend(path, choice.threads, device, precision)
        except UserError as error:
            if device == there[-1]:
                raise
            events.add("error", "backend.fallback", "the CPU is tried: {}".format(error))
            continue
        backend.model = chosen.file
        return backend
    raise AssertionError("no device")


def _opencv(bundle: Bundle, choice: Choice, _events: Events, size: Tuple[int, int]) -> Backend:
    if not hasattr(cv2, "dnn"):
        raise _Absent("opencv: this OpenCV {} has no module dnn; install onnxruntime".format(cv2.__version__))
    chosen, precision = choose_model(bundle, size, choice, takes_types_from_file=True, has_half=False)
    backend = OpenCvBackend(bundle.root / chosen.file, choice.threads, precision)
    backend.model = chosen.file
    return backend


_Opener = Callable[[Bundle, Choice, Events, Tuple[int, int]], Backend]
_OPENERS: Dict[str, _Opener] = {"tensorrt": _tensorrt, "onnxruntime": _onnxruntime, "opencv": _opencv}
KINDS = ("tensorrt", "onnxruntime", "opencv")  # best first


def _check_fit(bundle: Bundle, backend: Backend, size: Tuple[int, int]) -> None:
    if (backend.width, backend.height, backend.classes) != size + (len(bundle.classes),):
        found = "{}x{} with {} classes".format(backend.width, backend.height, backend.classes)
        raise refuse(bundle.root / backend.model, found, "bundle.json says otherwise; export the bundle again")


class _Said:
    """Progress of a build as events: its beginning, and then every tenth step, so that no log is flooded."""

    def __init__(self, events: Events, progress: Optional[Progress]) -> None:
        self._events, self._progress = events, progress
        self._steps: List[str] = []

    def __call__(self, what: str, done: int, total: int) -> None:
        if done % 10 == 0:
            of = " {} of {}".format(done, total) if total else " {}".format(done) if done else ""
            self._events.add("info", "engine.build", what + of)
        if self._progress is not None:
            self._progress(what, done, total)
