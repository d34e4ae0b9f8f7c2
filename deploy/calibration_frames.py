"""The calibration frames of a bundle: pictures of the curated set, for INT8 on the board that has it.

    calibration/NAME.png        at the size of the first model, resized as it resizes

Knows nothing of TensorRT.
"""

import hashlib
from typing import Iterator

import numpy as np

from deploy.bundle import Bundle
from deploy.calibrate import Calibration
from deploy.errors import refuse
from deploy.pictures import read_picture
from deploy.resize import network_input

FOLDER = "calibration"


def bundle_calibration(bundle: Bundle) -> Calibration:
    """What an INT8 engine of the bundle's first model is calibrated on.

    Raises UserError where the bundle holds no such frames.
    """
    names = sorted(name for name in bundle.files if name.startswith(FOLDER + "/"))
    if not names:
        found = "holds no calibration frames, which INT8 needs"
        raise refuse(bundle.root, found, "export it with calibration frames (--calibration 100), or fly fp16")
    digest = hashlib.sha256("".join(bundle.files[name].sha256 for name in names).encode("ascii")).hexdigest()
    return Calibration(_frames(bundle, names), digest)


def _frames(bundle: Bundle, names: "list[str]") -> Iterator[np.ndarray]:
    for name in names:
        frame = read_picture(bundle.root / name)
        # They are of the first model's size; another model of the bundle may take another.
        yield network_input(frame, bundle.width, bundle.height, "stretch", bundle.colour_order)[0]
