"""Who is asked whether an exported detector is the trained one: everyone on this machine who can run it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.errors import UserError
from pipeline.export.onnx import Exported
from pipeline.export.parity import Candidate, Parity, Progress, check_parity
from pipeline.export.runners import OnnxRuntimeRunner, OpenCvRunner, TorchRunner
from pipeline.networks.darknet import DarknetDetector
from pipeline.networks.detector import Detector

if TYPE_CHECKING:
    from pipeline.curated import LabelledImage

__all__ = ["parity_of"]


def parity_of(
    detector: Detector,
    exported: Exported,
    images: Sequence["LabelledImage"],
    resize: str,
    progress: Progress | None = None,
) -> Parity:
    """Compare PyTorch with ONNX Runtime, and of a Darknet network with OpenCV, on every picture.

    Raises:
        UserError: a limit is passed.
    """
    candidates, left_out = [Candidate(OnnxRuntimeRunner(exported), "fp32")], []
    if isinstance(detector, DarknetDetector):
        try:
            candidates.append(Candidate(OpenCvRunner(detector), "fp32"))
        except UserError as error:
            left_out.append(str(error))
    else:
        left_out.append("OpenCV: reads Darknet's networks only")
    size = (detector.width, detector.height)
    return check_parity(TorchRunner(detector), candidates, images, size, resize, detector.classes, left_out, progress)
