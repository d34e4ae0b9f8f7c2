"""A bundle is what was written, byte for byte, or it is refused."""

import json
import shutil
from pathlib import Path

import pytest

from deploy.bundle import read_bundle, write_bundle
from deploy.errors import UserError

MANIFEST = {
    "name": "x", "version": "1", "classes": ["a"], "width": 64, "height": 64, "resize_mode": "stretch",
    "colour_order": "rgb", "score_threshold": 0.25, "nms_threshold": 0.45, "anchors": [[8, 8]], "masks": [[0]],
    "board": "workstation", "provenance": {}, "parity": {},
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "x-1", {"model.onnx": b"model"}, MANIFEST).root


def test_what_is_written_is_read(root):
    bundle = read_bundle(root)
    assert (bundle.name, bundle.classes, bundle.width, bundle.masks) == ("x", ("a",), 64, ((0,),))
    assert bundle.model.read_bytes() == b"model"


def test_same_input_gives_the_same_bytes(root, tmp_path):
    other = write_bundle(tmp_path / "y", {"model.onnx": b"model"}, dict(reversed(MANIFEST.items()))).root
    for name in ("bundle.json", "model.onnx"):
        assert (root / name).read_bytes() == (other / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x-1", "y"]


def _edit(root: Path, **changes: object) -> None:
    content = json.loads((root / "bundle.json").read_text())
    content.update(changes)
    (root / "bundle.json").write_text(json.dumps({key: value for key, value in content.items() if value != "gone"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "schema is 2; this version reads 1"),
        ({"width": "gone"}, "has no key width"),
        ({"width": 65}, "width=65; width is a multiple of 32"),
        ({"width": "64"}, "width='64'; width takes a int"),
        ({"colour_order": "bgr"}, "colour_order='bgr'; allowed: rgb"),
        ({"resize_mode": "crop"}, "resize_mode='crop'; allowed: stretch, letterbox"),
        ({"score_threshold": 1.5}, "score_threshold=1.5; score_threshold lies between 0 and 1"),
        ({"classes": []}, "classes=\\[\\]; classes lists at least one name"),
        ({"surprise": 1}, "unknown key surprise=1"),
        ({"anchors": [1, 2]}, "anchors or masks are no lists of numbers"),
        ({"hashes": {"model.onnx": 1}}, "hashes are no texts"),
        ({"hashes": {"model.onnx": "0", "../x": "0"}}, "outside the bundle"),
    ],
)
def test_wrong_manifest_is_refused(root, changes, message):
    _edit(root, **changes)
    with pytest.raises(UserError, match=message):
        read_bundle(root)


def test_changed_model_is_refused(root):
    (root / "model.onnx").write_bytes(b"modem")
    with pytest.raises(UserError, match=r"model.onnx: has SHA-256 .* says"):
        read_bundle(root)


def test_missing_and_added_files_are_refused(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    (tmp_path / "copy" / "extra").write_text("")
    with pytest.raises(UserError, match="extra: does not belong"):
        read_bundle(tmp_path / "copy")
    (root / "model.onnx").unlink()
    with pytest.raises(UserError, match=r"model.onnx: No such file"):
        read_bundle(root)


def test_folder_without_manifest_is_no_bundle(tmp_path):
    with pytest.raises(UserError, match="is no bundle"):
        read_bundle(tmp_path)
