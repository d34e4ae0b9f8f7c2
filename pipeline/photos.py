"""Opens photos: as they are seen, within bounds, and with one clear line where that is impossible.

As seen means turned as EXIF's orientation tag in the EXIF block says, which is what OpenCV and every viewer do. Pillow
also believes a tag in XMP, which OpenCV does not; here it counts for nothing. This file knows no boxes.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import refuse

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MOST_PIXELS", "opened_photo", "orientation", "photo_size", "read_rgb", "upright"]

MOST_PIXELS = 200_000_000  # a camera's photo has fewer; what has more is a mistake, or made to exhaust the memory
_ORIENTATION = 274
_SIDEWAYS = {5, 6, 7, 8}  # orientations that swap width and height


@contextlib.contextmanager
def opened_photo(path: Path) -> Iterator["Image"]:
    """Open a photo with Pillow; what goes wrong, now or while decoding inside the block, is refused in its name."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise refuse(
                    path, f"{width} x {height} pixels", f"give a photo of at most {MOST_PIXELS // 10**6} million"
                )
            yield image
    except FileNotFoundError:
        raise refuse(path, "no such file", "correct what names it") from None
    # ImportError: once imported, Ultralytics makes Image.open look for a HEIF plugin when it knows no better.
    except (OSError, SyntaxError, ValueError, ImportError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).replace(str(path), path.name).split())
        raise refuse(path, f"cannot be read as an image ({reason})", "replace it, or remove it and its boxes") from None


def orientation(image: "Image") -> int:
    """EXIF orientation, 1 to 8, 1 being upright; from the EXIF block alone."""
    from PIL import Image

    if image.format == "PNG":
        image.load()  # the block may stand behind the pixels
    block = image.info.get("exif")
    if not block:
        return 1
    exif = Image.Exif()
    try:
        exif.load(block)
        found = exif.get(_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError):  # a damaged block turns nothing
        return 1
    return found if found in range(1, 9) else 1


def upright(image: "Image") -> "Image":
    """The photo as it is seen."""
    from PIL import Image

    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    turn = turns.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def photo_size(path: Path) -> tuple[int, int]:
    """Width and height as seen, from the header alone."""
    with opened_photo(path) as image:
        width, height = image.size
        return (height, width) if orientation(image) in _SIDEWAYS else (width, height)


def read_rgb(path: Path) -> np.ndarray:
    """The photo as seen: (H, W, 3) uint8, RGB."""
    with opened_photo(path) as image:
        return np.array(upright(image).convert("RGB"))
