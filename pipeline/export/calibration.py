"""Chooses the frames that a board calibrates INT8 on: spread over the train split, at the network's size."""

import hashlib
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from deploy.calibrate import Calibration
from deploy.calibration_frames import FOLDER
from deploy.resize import resize_image, to_tensor
from pipeline.curated import LabelledImage
from pipeline.errors import refuse
from pipeline.photos import read_rgb

__all__ = ["calibration_files", "calibration_of"]


def calibration_files(
    images: Sequence[LabelledImage], count: int, width: int, height: int, resize: str
) -> dict[str, bytes]:
    """PNG files by name, of `count` pictures at equal distances in the order of the split, or of all if they are fewer.

    Raises:
        UserError: no pictures.
    """
    if not images:
        raise refuse("calibration", "the set has no train split", "leave calibration frames out, or give another set")
    places = np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int))
    files = {}
    for number, place in enumerate(places):
        frame, _ = resize_image(read_rgb(images[place].path), width, height, resize)
        encoded = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1]
        files[f"{FOLDER}/frame-{number:04d}.png"] = encoded.tobytes()
    return files


def calibration_of(files: Mapping[str, bytes]) -> Calibration | None:
    """The same frames for a builder on this machine; None where there are none."""
    if not files:
        return None
    digest = hashlib.sha256(b"".join(files.values())).hexdigest()
    return Calibration((_tensor(content) for content in files.values()), digest)


def _tensor(content: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return to_tensor(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
