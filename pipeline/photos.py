"""Opens photos: as they are seen, within bounds, and with one clear line where that is impossible.

As seen means turned as EXIF's orientation tag in the EXIF block says, which is what OpenCV and every viewer do. Pillow
also believes a tag in XMP, which OpenCV does not; here it counts for nothing. This file knows no boxes.
"""

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import UserError, refuse

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MOST_PIXELS", "opened_photo", "orientation", "photo_size", "read_rgb", "upright"]

# A camera's photo has fewer; what has more is a mistake, or made to exhaust the memory. Pillow refuses slightly more.
MOST_PIXELS = 178_000_000
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")  # no others: to read PostScript, Pillow would run Ghostscript
_SMALLER = "give a photo of at most {} million pixels"
_ORIENTATION = 274
_SIDEWAYS = {5, 6, 7, 8}  # orientations that swap width and height


@contextlib.contextmanager
def opened_photo(path: Path) -> Iterator["Image"]:
    """Open a photo with Pillow; what goes wrong, now or while decoding inside the block, is refused in its name.

    Raises:
        UserError: no such file, no photo that can be read, or one with more than MOST_PIXELS.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise refuse(path, f"{width} x {height} pixels", _SMALLER.format(MOST_PIXELS // 10**6))
            yield image
    except FileNotFoundError:
        raise refuse(path, "no such file", "correct what names it") from None
    except Image.DecompressionBombError:
        raise refuse(path, "far too many pixels", _SMALLER.format(MOST_PIXELS // 10**6)) from None
    # Once imported, Ultralytics makes Image.open look for a HEIF plugin when it knows no better.
    except ImportError:
        raise _unreadable(path, f"cannot identify image file '{path.name}'") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise _unreadable(path, " ".join(str(error).replace(str(path), path.name).split())) from None


def _unreadable(path: Path, reason: str) -> UserError:
    return refuse(path, f"cannot be read as an image ({reason})", "replace it, or remove it and its boxes")


def orientation(image: "Image") -> int:
    """EXIF orientation, 1 to 8, 1 being upright; from the EXIF block alone."""
    if image.format == "PNG":
        image.load()  # the block may stand behind the pixels
    found = _orientation_tag(image.info.get("exif") or b"")
    return found if found in range(1, 9) else 1


def _orientation_tag(block: bytes) -> int:
    """Tag 274 of the first directory as OpenCV's exif.cpp reads it: two bytes, whatever type they claim to be."""
    content = block.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None:
        return 1
    try:
        mark, start = struct.unpack_from(f"{order}HI", content, 2)
        (count,) = struct.unpack_from(f"{order}H", content, start)
        for entry in range(count if mark == 42 else 0):
            tag, value = struct.unpack_from(f"{order}H6xH", content, start + 2 + 12 * entry)
            if tag == _ORIENTATION:
                return int(value)
    except struct.error:  # a damaged block turns nothing
        pass
    return 1


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
    """Width and height as seen, from the header alone.

    Raises:
        UserError: see `opened_photo`.
    """
    with opened_photo(path) as image:
        width, height = image.size
        return (height, width) if orientation(image) in _SIDEWAYS else (width, height)


def read_rgb(path: Path) -> np.ndarray:
    """The photo as seen: (H, W, 3) uint8, RGB. Of 16 bits the upper 8 count, as with OpenCV.

    Raises:
        UserError: see `opened_photo`.
    """
    with opened_photo(path) as image:
        turned = upright(image)
        if turned.mode.startswith("I;16"):  # Pillow would clip where OpenCV divides
            return np.repeat((np.array(turned) >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
        return np.array(turned.convert("RGB"))
