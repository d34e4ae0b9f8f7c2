"""Who is asked whether an exported detector is the trained one: everyone on this machine who can run it."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import UserError
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
    progress: Progress | None = None,
) -> Parity:
    """Compare PyTorch on every picture with ONNX Runtime, OpenCV where it reads the network, and TensorRT on a GPU.

    exported: by precision.

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
    with tempfile.TemporaryDirectory() as folder:
        for precision, one in exported.items():
            try:
                candidates.append(Candidate(TensorRtRunner(one, precision, Path(folder)), precision))
            except UserError as error:
                # The folder has another name each time, and the report is part of the bundle's bytes.
                left_out.append(f"TensorRT {precision}: {error}".replace(f"{folder}/", ""))
        reference = TorchRunner(detector)
        return check_parity(reference, candidates, images, size, resize, detector.classes, left_out, progress)
