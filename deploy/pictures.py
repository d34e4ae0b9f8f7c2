"""Reads a picture file whole or refuses it: OpenCV fills what is missing of a JPEG with grey and says nothing."""

import zlib
from pathlib import Path

import cv2
import numpy as np

from deploy.errors import refuse

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def read_picture(file: Path) -> np.ndarray:
    """Return (H, W, 3) uint8 BGR, turned as its EXIF rotation says.

    Raises UserError if the file cannot be read or decoded, or breaks off.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise refuse(file, error.strerror or str(error), "give a file that can be read") from None
    if not _is_whole(data):
        raise refuse(file, "the picture is damaged or breaks off", "replace or remove it")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # no bytes, or more pixels than OpenCV takes
        image = None
    if image is None:
        raise refuse(file, "cannot be decoded as a picture", "replace or remove it")
    return image


def _is_whole(data: bytes) -> bool:
    """Whether a JPEG has its end and every part of a PNG its checksum; the decoders of other formats notice alone."""
    if data.startswith(b"\xff\xd8"):
        return _jpeg_has_its_end(data)
    if data.startswith(b"\x89PNG"):
        return _png_is_whole(data)
    return True


def _jpeg_has_its_end(data: bytes) -> bool:
    """Step over the segments, so that the end of a thumbnail does not count, and look for the end behind the scan."""
    place = 2
    while data[place : place + 1] == b"\xff":
        if data[place + 1 : place + 2] == b"\xda":
            return data.find(b"\xff\xd9", place) > 0
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return True  # no scan was found: the decoder will say so


def _png_is_whole(data: bytes) -> bool:
    place = 8
    while place + 12 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        checksum = int.from_bytes(data[end - 4 : end], "big")
        if end > len(data) or zlib.crc32(data[place + 4 : end - 4]) & 0xFFFFFFFF != checksum:
            return False
        if data[place + 4 : place + 8] == b"IEND":
            return True
        place = end
    return False
