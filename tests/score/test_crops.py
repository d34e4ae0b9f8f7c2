"""Objects come out of their photos where the labels say, and small ones are counted."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from pipeline.curated import LabelledImage, read_curated_set
from pipeline.errors import UserError
from pipeline.score.crops import cut_crops, large_enough


def _photo(root: Path, rows: str) -> tuple[np.ndarray, LabelledImage]:
    """A photo of noise, 100 x 60, with these label rows, read back as a set."""
    rng = np.random.default_rng(1)
    for split in ("train", "val"):
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True)
        image = rng.integers(0, 256, (60, 100, 3)).astype(np.uint8)
        cv2.imwrite(str(root / "images" / split / f"{split}.png"), image)
        (root / "labels" / split / f"{split}.txt").write_text(rows)
    (root / "data.yaml").write_text(yaml.safe_dump({"train": "images/train", "val": "images/val", "names": ["a", "b"]}))
    return image[:, :, ::-1], read_curated_set(root).splits["val"][0]


def test_corners_follow_from_centre_and_size(tmp_path: Path) -> None:
    """x1 = w (xn - wn / 2): a box of 20 x 20 pixels, cut at the same size, is the photo's own pixels."""
    image, photo = _photo(tmp_path, f"1 0.4 0.5 0.2 {20 / 60}\n")
    crops = cut_crops([photo], 20, 20, 8)
    assert np.array_equal(crops.pixels[0].numpy().transpose(1, 2, 0), image[20:40, 30:50])
    assert crops.labels.tolist() == [1]
    assert crops.image_ids == ("val",)
    assert crops.boxes.tolist() == [pytest.approx([30, 20, 50, 40])]


def test_boxes_are_clipped_to_the_photo_and_stretched(tmp_path: Path) -> None:
    image, photo = _photo(tmp_path, "0 0.0975 0.25 0.2 0.5\n")  # a quarter of a pixel over the left edge
    crops = cut_crops([photo], 32, 64, 8)
    expected = cv2.resize(np.ascontiguousarray(image[:30, :20]), (32, 64), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(crops.pixels[0].numpy().transpose(1, 2, 0), expected)


def test_small_objects_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = "0 0.5 0.5 0.079 0.5\n1 0.5 0.5 0.081 0.5\n0 0.5 0.5 0.5 0.05\n"  # 7.9, 8.1 and 3 pixels
    _, photo = _photo(tmp_path, rows)
    crops = cut_crops([photo], 16, 16, 8)
    assert (crops.labels.tolist(), crops.too_small) == ([1], 2)
    assert large_enough(photo, 0).tolist() == [True] * 3
    # A sliver that covers no whole pixel cannot be cut out, whatever is asked for.
    _, sliver = _photo(tmp_path / "sliver", "0 0.5 0.5 0.0001 0.5\n")
    assert large_enough(sliver, 0).tolist() == [False]


def test_a_photo_that_cannot_be_decoded_is_refused(tmp_path: Path) -> None:
    _, photo = _photo(tmp_path, "0 0.5 0.5 0.5 0.5\n")
    photo.path.write_bytes(photo.path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"val\.png: cannot be read"):
        cut_crops([photo], 16, 16, 8)
