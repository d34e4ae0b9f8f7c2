"""A picture is read whole, upright and as BGR, or it is refused."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from colour_model import square
from PIL import Image

from deploy.errors import UserError
from deploy.pictures import PICTURES, read_picture


@pytest.fixture
def photo() -> np.ndarray:
    """(240, 320, 3) uint8 BGR with enough in it that half a file is half a picture."""
    coarse = np.random.default_rng(0).integers(0, 256, (30, 40, 3))
    return np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)


@pytest.mark.parametrize("suffix", PICTURES)
def test_every_format_is_read_as_bgr(tmp_path, suffix):
    file = tmp_path / f"red{suffix}"
    cv2.imwrite(str(file), np.full((40, 60, 3), (0, 0, 255), np.uint8))
    image = read_picture(file)
    assert image.shape == (40, 60, 3)
    assert np.abs(image.astype(int) - (0, 0, 255)).max() < 5


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("suffix", PICTURES)
def test_picture_that_breaks_off_is_refused(tmp_path, capfd, photo, suffix, share):
    file = tmp_path / f"photo{suffix}"
    cv2.imwrite(str(file), photo)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match=file.name):
        read_picture(file)
    assert "libpng" not in capfd.readouterr().err


def test_thumbnail_does_not_count_as_the_end(tmp_path, photo):
    """The thumbnail in a phone's EXIF is a JPEG with an end of its own."""
    file = tmp_path / "photo.jpg"
    cv2.imwrite(str(file), photo)
    cv2.imwrite(str(tmp_path / "small.jpg"), photo[::8, ::8])
    data, small = file.read_bytes(), (tmp_path / "small.jpg").read_bytes()
    comment = b"\xff\xfe" + (len(small) + 2).to_bytes(2, "big") + small
    data = data[:2] + comment + data[2:]
    file.write_bytes(data)
    assert read_picture(file).shape == photo.shape
    file.write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(UserError, match="breaks off"):
        read_picture(file)


def test_film_behind_a_phones_picture_does_no_harm(tmp_path, photo):
    file = tmp_path / "photo.jpg"
    cv2.imwrite(str(file), photo)
    file.write_bytes(file.read_bytes() + b"\xff\xd9 film \xff\xda film")
    assert read_picture(file).shape == photo.shape


def test_damaged_png_is_refused(tmp_path, capfd, photo):
    file = tmp_path / "photo.png"
    cv2.imwrite(str(file), photo)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        read_picture(file)
    assert capfd.readouterr().err == ""


def test_picture_of_too_many_pixels_is_refused(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100000, 100000, 8, 2, 0, 0, 0))
    file = tmp_path / "huge.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b""))
    with pytest.raises(UserError, match="cannot be decoded"):
        read_picture(file)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_refused(tmp_path, content):
    file = tmp_path / "x.jpg"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.jpg"):
        read_picture(file)


def test_folder_named_like_a_picture_is_refused(tmp_path):
    with pytest.raises(UserError, match="Is a directory"):
        read_picture(tmp_path)


def test_rotation_of_the_camera_is_applied(tmp_path: Path) -> None:
    """Orientation 6: the camera was held upright, the pixels lie on their left side."""
    upright = square(0, 0, (255, 0, 0))
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.rot90(upright)[:, :, ::-1]).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    found = read_picture(tmp_path / "turned.jpg")
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).mean() < 3
