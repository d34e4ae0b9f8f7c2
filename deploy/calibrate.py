"""INT8 calibration: frames that TensorRT measures the range of every tensor on, and the file that keeps the result.

After NVIDIA's IInt8EntropyCalibrator2 (python/docstrings/infer/pyInt8Doc.h); in TensorRT 8 to 10, not in RTX.
"""

import hashlib
import itertools
from pathlib import Path
from typing import Any, Iterable, Iterator, NamedTuple, Optional, Tuple

import numpy as np

from deploy.cuda import Cuda
from deploy.errors import refuse
from deploy.tensorrt_log import Listener


class Calibration(NamedTuple):
    """What to calibrate on.

    frames: (1, 3, H, W) float32, RGB, 0 to 1, as the network gets them. digest: a text that differs where the frames
    do, such as the data set's hash; it decides whether an earlier calibration, and an engine, may be used again.
    """

    frames: Iterable[np.ndarray]
    digest: str


def calibration_file(folder: Path, onnx_sha256: str, version: str, calibration: Calibration) -> Path:
    """Where the result for this model, TensorRT and these frames is kept; others have other names, and are not read."""
    text = "{} {} {}".format(onnx_sha256, version, calibration.digest)
    return Path(folder) / "{}.calibration".format(hashlib.sha256(text.encode("utf-8")).hexdigest()[:16])


class Feeder:
    """Hands frames to the device one by one. shape: of the network's input.

    used: how many were handed over. result: what TensorRT made of them, empty until it is done.
    """

    def __init__(self, calibration: Calibration, shape: Tuple[int, ...], cuda: Cuda) -> None:
        self.used, self.result = 0, b""
        self._frames: Iterator[np.ndarray] = iter(calibration.frames)
        self._shape, self._cuda = shape, cuda
        self._stream = cuda.stream()
        try:
            self._pointer = cuda.allocate(int(np.prod(shape)) * 4)
        except BaseException:
            cuda.destroy(self._stream)
            raise

    def require_frames(self, cache: Path) -> None:
        """Refuse to calibrate on nothing, unless an earlier result will do: raises UserError."""
        first = list(itertools.islice(self._frames, 1))
        if not first and not cache.is_file():
            raise refuse("calibration", "no frames", "give frames of the curated set")
        self._frames = itertools.chain(first, self._frames)

    def next(self) -> Optional[int]:
        """The device address of the next frame; None after the last.

        Raises UserError: a frame has another shape or type than the input.
        """
        frame = next(self._frames, None)
        if frame is None:
            return None
        if frame.shape != self._shape or frame.dtype != np.float32:
            found = "frame {} is {} {}".format(self.used, frame.dtype, list(frame.shape))
            raise refuse("calibration", found, "the model takes float32 {}".format(list(self._shape)))
        frame = np.ascontiguousarray(frame)
        self._cuda.to_device(self._pointer, frame, self._stream)
        self._cuda.wait(self._stream)
        self.used += 1
        return self._pointer

    def __enter__(self) -> "Feeder":
        return self

    def __exit__(self, *_error: Any) -> None:
        self._cuda.free(self._pointer)
        self._cuda.destroy(self._stream)


def make_calibrator(module: Any, feeder: Feeder, cache: Path, listener: Listener) -> Any:
    """An entropy calibrator that reads `feeder`, or the file `cache` of an earlier build where there is one.

    What goes wrong in it is kept in `listener.failure`, since TensorRT lets no exception through. Nothing is written
    while TensorRT is at work: Ctrl-C may end the process there.
    """

    class _Calibrator(module.IInt8EntropyCalibrator2):
        def __init__(self) -> None:
            module.IInt8EntropyCalibrator2.__init__(self)

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: Any) -> Any:
            try:
                pointer = feeder.next() if listener.say("calibration", feeder.used, 0) else None
                return None if pointer is None else [pointer]
            except BaseException as error:  # see the function
                listener.failure = listener.failure or error
                return None

        def read_calibration_cache(self) -> Optional[bytes]:
            try:
                return cache.read_bytes() or None
            except OSError:
                return None

        def write_calibration_cache(self, content: Any) -> None:
            feeder.result = bytes(memoryview(content))

    return _Calibrator()
