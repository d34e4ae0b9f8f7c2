"""Photos as they are seen, compared with OpenCV, which reads them on the drone."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn import draw_set
from drawn_source import draw_photo
from PIL import Image, PngImagePlugin

from pipeline import photos
from pipeline.errors import UserError
from pipeline.photos import photo_size, read_rgb


def _halves() -> Image.Image:
    """Four corners of different colours, so that no turn looks like another."""
    pixels = np.zeros((40, 64, 3), dtype=np.uint8)
    pixels[:20, :32], pixels[:20, 32:], pixels[20:, :32] = (200, 30, 30), (30, 200, 30), (30, 30, 200)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_photo_is_turned_as_opencv_turns_it(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[274] = orientation
    _halves().save(path, exif=exif)
    expected = cv2.imread(str(path))
    assert expected is not None
    found = read_rgb(path)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected[:, :, ::-1]).max() <= 3  # two JPEG decoders
    assert photo_size(path) == (expected.shape[1], expected.shape[0])


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["BYTE", "SHORT", "LONG"])
@pytest.mark.parametrize("value", [0, 3, 6, 8, 9])
def test_a_tag_of_another_type_is_read_as_opencv_reads_it(tmp_path: Path, order: str, kind: str, value: int) -> None:
    number, form = {"BYTE": (1, "B3x"), "SHORT": (3, "H2x"), "LONG": (4, "I")}[kind]
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HIH", 42, 8, 1)
    entry = struct.pack(f"{order}HHI{form}I", 274, number, 1, value, 0)
    _halves().save(tmp_path / "a.jpg", quality=95, exif=b"Exif\0\0" + head + entry)
    expected = cv2.imread(str(tmp_path / "a.jpg"))
    assert expected is not None
    found = read_rgb(tmp_path / "a.jpg")
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected[:, :, ::-1]).max() <= 3


@pytest.mark.filterwarnings("error")
def test_photos_are_decoded_to_the_bits_that_opencv_finds(facades: Path, tmp_path: Path) -> None:
    """Training reads with Pillow, which refuses half a photo; the drone reads with OpenCV, which fills it with grey."""
    draw_set(tmp_path)
    for seed in range(8):
        draw_photo(tmp_path / f"{seed}.jpg", seed, exif_orientation=seed + 1)
    drawn = [path for path in tmp_path.rglob("*") if path.suffix in (".jpg", ".png")]
    assert len(drawn) == 40
    paths = drawn + sorted(facades.rglob("*.jpg"))
    assert len(paths) > 500
    for path in paths:
        expected = cv2.imread(str(path))
        assert expected is not None
        assert np.array_equal(read_rgb(path), expected[:, :, ::-1]), path


def test_of_sixteen_bits_the_upper_eight_count(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.arange(64 * 40, dtype=np.uint16).reshape(40, 64) * 25)
    expected = cv2.imread(str(tmp_path / "a.png"))
    assert expected is not None
    assert np.array_equal(read_rgb(tmp_path / "a.png"), expected[:, :, ::-1])


def test_a_turn_that_only_xmp_asks_for_counts_for_nothing(tmp_path: Path) -> None:
    packet = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><a tiff:Orientation='6'/></x:xmpmeta>"
    _halves().save(tmp_path / "a.jpg", xmp=packet)
    expected = cv2.imread(str(tmp_path / "a.jpg"))
    assert expected is not None
    assert read_rgb(tmp_path / "a.jpg").shape == expected.shape == (40, 64, 3)


def test_damaged_exif_turns_nothing(tmp_path: Path) -> None:
    _halves().save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    assert photo_size(tmp_path / "a.jpg") == (64, 40)


def test_grey_and_transparent_photos_become_rgb(tmp_path: Path) -> None:
    _halves().convert("L").save(tmp_path / "grey.jpg")
    _halves().convert("RGBA").save(tmp_path / "clear.png")
    assert read_rgb(tmp_path / "grey.jpg").shape == read_rgb(tmp_path / "clear.png").shape == (40, 64, 3)


def test_more_pixels_than_a_camera_has_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _halves().save(tmp_path / "a.png")
    monkeypatch.setattr(photos, "MOST_PIXELS", 64 * 40 - 1)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UserError, match=r"a\.png: 64 x 40 pixels"):
        photo_size(tmp_path / "a.png")


@pytest.mark.parametrize("content", [b"", b"no photo", b"\xff\xd8\xff\xe0half"])
def test_what_is_no_photo_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.jpg: cannot be read as an image") as caught:
        read_rgb(tmp_path / "a.jpg")
    assert "\n" not in str(caught.value)


def test_a_photo_that_breaks_off_is_refused_and_a_missing_one_too(tmp_path: Path) -> None:
    _halves().resize((640, 400)).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"a\.jpg: cannot be read as an image .*truncated"):
        read_rgb(tmp_path / "a.jpg")
    with pytest.raises(UserError, match=r"b\.jpg: no such file"):
        read_rgb(tmp_path / "b.jpg")
