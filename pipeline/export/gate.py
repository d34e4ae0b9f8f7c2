"""Who is asked whether an exported detector is the trained one: everyone on this machine who can run it."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.calibrate import Calibration
from deploy.cuda import Cuda
from pipeline.errors import UserError
from pipeline.experiment import PARITY_PICTURES
from pipeline.export.onnx import Exported
from pipeline.export.parity import Candidate, Parity, Progress, check_parity
from pipeline.export.runners import OnnxRuntimeRunner, OpenCvRunner, TensorRtRunner, TorchRunner
from pipeline.networks.darknet import DarknetDetector
from pipeline.networks.detector import Detector

if TYPE_CHECKING:
    from pipeline.curated import LabelledImage

__all__ = ["parity_of"]


def parity_of(
    detector: Detector,
    exported: Mapping[str, Exported],
    images: Sequence["LabelledImage"],
    resize: str,
    calibration: Calibration | None = None,
    progress: Progress | None = None,
    most: int = PARITY_PICTURES,
) -> Parity:
    """Compare PyTorch on the pictures with ONNX Runtime, OpenCV where it reads the network, and TensorRT on a GPU.

    exported: by precision. calibration: for INT8, which TensorRT then builds too where it can. most: pictures, taken at
    equal distances; 0 for all.

    Raises:
        UserError: a limit is passed.
    """
    candidates = [Candidate(OnnxRuntimeRunner(one), precision) for precision, one in exported.items()]
    left_out = []
    if isinstance(detector, DarknetDetector):
        try:
            candidates.append(Candidate(OpenCvRunner(detector), "fp32"))
        except UserError as error:
            left_out.append(str(error))
    else:
        left_out.append("OpenCV: reads Darknet's networks only")
    size = (detector.width, detector.height)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        engines, missing = _engines(exported, calibration, Path(folder), opened)
        reference = TorchRunner(detector)
        candidates, left_out = [*candidates, *engines], [*left_out, *missing]
        chosen = _chosen(images, most)
        found = check_parity(reference, candidates, chosen, size, resize, detector.classes, left_out, progress)
        return replace(found, available=len(images))


def _chosen(images: Sequence["LabelledImage"], most: int) -> Sequence["LabelledImage"]:
    count = min(most or len(images), len(images))
    return [images[index * len(images) // count] for index in range(count)]


def _engines(
    exported: Mapping[str, Exported], calibration: Calibration | None, folder: Path, opened: ExitStack
) -> tuple[list[Candidate], list[str]]:
    """An engine of each precision, built in `folder`, closed with `opened`; those that cannot be, with the reason."""
    try:
        Cuda()
    except UserError:
        return [], ["TensorRT: no GPU here that CUDA can use"]
    found, left_out = [], []
    wanted = dict(exported) if calibration is None else {**exported, "int8": exported["fp32"]}
    for precision, one in wanted.items():
        try:
            runner = opened.enter_context(closing(TensorRtRunner(one, precision, folder, calibration)))
            found.append(Candidate(runner, precision))
        except UserError as error:
            # The folder has another name each time, and the report is part of the bundle's bytes.
            left_out.append(f"TensorRT {precision}: {error}".replace(f"{folder}/", ""))
    return found, left_out
