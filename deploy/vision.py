"""From a picture to detections: resize, network, decode, each timed. Knows nothing of where pictures come from."""

import time
from typing import Dict, Tuple

import numpy as np

from deploy.backends.contract import Backend
from deploy.bundle import Bundle
from deploy.decode import detections_from_network
from deploy.frame import Detections
from deploy.resize import network_input

STAGES = ("resize", "network", "decode")


class Vision:
    """A bundle, and a backend that holds its model.

    size: (width, height) of the network's input, pixels.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle = bundle
        self.backend = backend
        self.size = (bundle.width, bundle.height)
        self._tensor = np.empty((1, 3, bundle.height, bundle.width), np.float32)

    def look(self, image: np.ndarray) -> Tuple[Detections, Dict[str, float]]:
        """Detections in (H, W, 3) uint8 BGR, boxes in its pixels, and the milliseconds of each of STAGES."""
        bundle = self.bundle
        begin = time.perf_counter()
        tensor, placement = network_input(
            image, bundle.width, bundle.height, bundle.resize_mode, bundle.colour_order, self._tensor
        )
        ready = time.perf_counter()
        boxes, scores = self.backend.infer(tensor)
        done = time.perf_counter()
        detections = detections_from_network(boxes, scores, bundle.score_threshold, bundle.nms_threshold, placement)
        end = time.perf_counter()
        spent = {"resize": ready - begin, "network": done - ready, "decode": end - done}
        return detections, {stage: seconds * 1000 for stage, seconds in spent.items()}

    def close(self) -> None:
        """Give back what the backend holds."""
        self.backend.close()
