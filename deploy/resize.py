"""The resize, for training, evaluation and drone alike: how a picture becomes the network's input, and boxes go back.

The mode belongs to the weights: AlexeyAB's Darknet stretches, the original letterboxes. Knows nothing about networks.
"""

from typing import NamedTuple, Optional, Tuple

import cv2
import numpy as np

from deploy.errors import refuse
from deploy.frame import FRAME_ORDER
from deploy.manifest import RESIZE_MODES

# image.c letterbox_image fills with .5
_BORDER = 127


class Placement(NamedTuple):
    """Where a source picture of (width, height) pixels lies in the network's input: x' = x * scale_x + left."""

    scale_x: float
    scale_y: float
    left: int
    top: int
    width: int
    height: int


def place(width: int, height: int, network_width: int, network_height: int, mode: str) -> Placement:
    """Compute the placement of a (width, height) picture; a letterbox is centred as in image.c letterbox_image.

    >>> place(640, 320, 416, 416, "letterbox")
    Placement(scale_x=0.65, scale_y=0.65, left=0, top=104, width=640, height=320)
    """
    inner_width, inner_height = _inner_size(width, height, network_width, network_height, mode)
    left, top = (network_width - inner_width) // 2, (network_height - inner_height) // 2
    return Placement(inner_width / width, inner_height / height, left, top, width, height)


def network_input(
    frame: np.ndarray, width: int, height: int, mode: str, colour_order: str, out: Optional[np.ndarray] = None
) -> Tuple[np.ndarray, Placement]:
    """Turn a frame into a network's input: what flies, and what golden frames prove, goes this way and no other.

    frame: (H, W, 3) uint8 BGR. width, height: of the input, pixels. colour_order: that the network takes, "rgb".
    Returns (1, 3, height, width) float32 from 0 to 1, which is `out` where that is given, and where the frame lies.
    """
    resized, placement = resize_image(frame, width, height, mode)
    return to_tensor(resized, out, FRAME_ORDER, colour_order), placement


def resize_image(image: np.ndarray, network_width: int, network_height: int, mode: str) -> Tuple[np.ndarray, Placement]:
    """Resize (H, W, 3) uint8 to (network_height, network_width, 3) uint8, and say where the picture lies in it."""
    height, width = image.shape[:2]
    placement = place(width, height, network_width, network_height, mode)
    size = _inner_size(width, height, network_width, network_height, mode)
    inner = image if (width, height) == size else cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    if size == (network_width, network_height):
        return inner, placement
    canvas = np.full((network_height, network_width, 3), _BORDER, np.uint8)
    canvas[placement.top : placement.top + size[1], placement.left : placement.left + size[0]] = inner
    return canvas, placement


def to_tensor(
    image: np.ndarray, out: Optional[np.ndarray] = None, image_order: str = "rgb", tensor_order: str = "rgb"
) -> np.ndarray:
    """Turn (H, W, 3) uint8 into the network's input, (1, 3, H, W) float32 from 0 to 1.

    out: an array of that shape to fill and return, which spares the time that fresh memory takes. image_order,
    tensor_order: of the channels of the picture, and of the planes of the input, "rgb" or "bgr".
    """
    tensor = np.empty((1, 3) + image.shape[:2], np.float32) if out is None else out
    for plane, colour in zip(tensor[0], tensor_order):  # plane by plane takes a third of the time
        plane[...] = image[:, :, image_order.index(colour)]
        np.divide(plane, np.float32(255), out=plane)  # as in training, to the last bit
    return tensor


def boxes_to_network(boxes: np.ndarray, placement: Placement) -> np.ndarray:
    """Move (N, 4) xyxy boxes from pixels of the source image to pixels of the network's input."""
    scale, shift = _scale_and_shift(placement)
    return (np.asarray(boxes, np.float32) * scale + shift).astype(np.float32)


def boxes_to_source(boxes: np.ndarray, placement: Placement) -> np.ndarray:
    """Move (N, 4) xyxy boxes from pixels of the network's input to pixels of the source image, clipped to it."""
    scale, shift = _scale_and_shift(placement)
    source = (np.asarray(boxes, np.float32) - shift) / scale
    limits = np.array([placement.width, placement.height] * 2, np.float32)
    return np.clip(source, 0, limits).astype(np.float32)


def _inner_size(width: int, height: int, network_width: int, network_height: int, mode: str) -> Tuple[int, int]:
    """Width and height of the picture inside the network's input."""
    if mode == "stretch":
        return network_width, network_height
    if mode != "letterbox":
        raise refuse("resize mode", repr(mode), "allowed: " + ", ".join(RESIZE_MODES))
    if network_width * height < network_height * width:
        return network_width, max(1, height * network_width // width)
    return max(1, width * network_height // height), network_height


def _scale_and_shift(placement: Placement) -> Tuple[np.ndarray, np.ndarray]:
    scale = np.array([placement.scale_x, placement.scale_y] * 2, np.float32)
    return scale, np.array([placement.left, placement.top] * 2, np.float32)
