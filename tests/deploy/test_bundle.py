"""A bundle is what was written, byte for byte, by somebody who is trusted, or it is refused with its own message."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from colour_model import SIZE, colour_model
from signed_bundle import ABOUT, MODEL, edit, make_key, rewrite, write_signed

from deploy.bundle import Bundle, read_bundle, write_bundle
from deploy.errors import UserError
from deploy.manifest import Model
from deploy.strict_json import canonical_json
from pipeline.export.keys import SigningKey

HASH = "0" * 64


@dataclass(frozen=True)
class Signed:
    """A bundle of one test's own, the key that signed it and is trusted, and another key."""

    root: Path
    key: SigningKey
    other: SigningKey

    def read(self) -> Bundle:
        """As a drone does that trusts the key."""
        return read_bundle(self.root, [self.key.public])

    def edit(self, **changes: Any) -> None:
        """Change the manifest as its rightful maker."""
        edit(self.root, self.key, **changes)

    @property
    def manifest(self) -> dict[str, Any]:
        return json.loads((self.root / "bundle.json").read_bytes())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    folder = tmp_path_factory.mktemp("signed")
    key, other = make_key(folder / "keys", "maker"), make_key(folder / "keys", "other")
    return Signed(write_signed(folder / "colours-1", key).root, key, other)


@pytest.fixture
def signed(made: Signed, tmp_path: Path) -> Signed:
    shutil.copytree(made.root, tmp_path / "colours-1")
    return Signed(tmp_path / "colours-1", made.key, made.other)


def test_what_is_written_is_read(signed):
    bundle = signed.read()
    assert (bundle.name, bundle.classes, bundle.width, bundle.height) == ("colours", ("red", "green"), SIZE, SIZE)
    assert (bundle.models, bundle.board, bundle.masks) == ((MODEL,), {"name": "workstation"}, ())
    assert bundle.model.read_bytes() == colour_model()
    assert bundle.signature.trusted_as == "maker"
    assert bundle.signature.is_checked


def test_same_input_gives_the_same_bytes(made, tmp_path):
    files = {"model.onnx": colour_model()}
    for name, about in (("x", ABOUT), ("y", dict(reversed(ABOUT.items())))):
        write_bundle(tmp_path / name, files, about, made.key.sign)
    for name in ("bundle.json", "model.onnx", "signature"):
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y"]


def test_several_models_are_chosen_by_name(made, tmp_path):
    small = Model("model.32.onnx", 32, 32, "fp32")
    bundle = write_signed(tmp_path / "two", made.key, {MODEL: colour_model(), small: colour_model(32)})
    assert (bundle.model.name, bundle.width) == ("model.onnx", SIZE)
    chosen = bundle.with_model("model.32.onnx")
    assert (chosen.model.name, chosen.width, len(chosen.models)) == ("model.32.onnx", 32, 2)
    with pytest.raises(UserError, match=r"model 'x': is not in .*; allowed: model\.onnx, model\.32\.onnx"):
        bundle.with_model("x")


def test_failed_writing_leaves_what_was_there(signed):
    before = signed.manifest
    with pytest.raises(UserError, match="is no ONNX file"):
        write_bundle(signed.root, {"model.onnx": b"no model"}, ABOUT)
    with pytest.raises(UserError, match=r"cannot be written: .*not JSON compliant"):
        write_bundle(signed.root, {"model.onnx": colour_model()}, ABOUT | {"parity": {"score": float("nan")}})
    nested: list[Any] = []
    for _ in range(100):
        nested = [nested]
    with pytest.raises(UserError, match="cannot be written: it is nested more than 64 deep"):
        write_bundle(signed.root, {"model.onnx": colour_model()}, ABOUT | {"parity": {"x": nested}})
    assert signed.read().files.keys() == before["files"].keys()
    assert [path.name for path in signed.root.parent.iterdir()] == ["colours-1"]


def test_folder_that_is_no_bundle_is_not_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="mine: is there, and is no bundle; move it away"):
        write_bundle(tmp_path / "mine", {"model.onnx": colour_model()}, ABOUT)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    with pytest.raises(UserError, match=r"is no bundle: it has no bundle\.json"):
        read_bundle(tmp_path / "mine")


def _entry(name: str, size: int = 1) -> dict[str, Any]:
    return {name: {"bytes": size, "sha256": HASH}}


def _models(**changes: Any) -> dict[str, Any]:
    return {"models": [MODEL._asdict() | changes]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 1}, "schema is 1, of an older Skylight; export it again; this one reads 2"),
        ({"schema": 3}, "schema is 3, of a newer Skylight; install that one here; this one reads 2"),
        ({"schema": "two"}, "schema is 'two'; this version reads 2"),
        ({"models": "gone"}, "has no key models"),
        ({"models": []}, "models=[]; models lists at least one"),
        (_models(width=65), "models: 'model.onnx': width=65; width is a multiple of 32, at most 4096"),
        (_models(height=1 << 30), "height=1073741824; height is a multiple of 32, at most 4096"),
        (_models(width=True), "width=True; width is a multiple of 32"),
        (_models(precision="fp8"), "precision='fp8'; allowed: fp32, fp16, int8"),
        (_models(file="model.2.onnx"), "models: 'model.2.onnx': is not among its files"),
        (_models(file=[1]), "models: [1]: is not among its files"),
        (_models(surprise=1), "each has file, width, height, precision"),
        ({"models": [MODEL._asdict()] * 2}, "model.onnx is 2 times among models; each is there once"),
        ({"name": "../x"}, "name='../x'; name has letters, digits and _.- alone"),
        ({"score_threshold": "0.5"}, "score_threshold='0.5'; score_threshold takes a float"),
        ({"score_threshold": 1.5}, "score_threshold=1.5; score_threshold lies between 0 and 1"),
        ({"nms_threshold": True}, "nms_threshold=True; nms_threshold takes a float"),
        ({"colour_order": "bgr"}, "colour_order='bgr'; allowed: rgb"),
        ({"resize_mode": "crop"}, "resize_mode='crop'; allowed: stretch, letterbox"),
        ({"classes": []}, "classes=[]; classes lists at least one name"),
        ({"classes": ["a\x1b[2J"]}, "classes=['a\\x1b[2J']; classes lists at least one name that can be printed"),
        ({"surprise": 1}, "unknown key 'surprise'=1; known: schema, name"),
        ({"anchors": [1, 2]}, "anchors=[1, 2]; anchors lists pairs of numbers above 0"),
        ({"masks": [[0]]}, "masks=[[0]]; masks lists numbers of anchors"),
        ({"board": "workstation"}, "board='workstation'; board takes a dict"),
        ({"board": {}}, "board={}; board has at least a name"),
        ({"files": {"model.onnx": HASH}}, "files: model.onnx: '0000"),
        ({"files": _entry("model.onnx", -1)}, "says that model.onnx has -1 bytes"),
        ({"files": _entry("model.onnx", 1 << 40)}, "says that model.onnx has 1099511627776 bytes; at most 536870912"),
        ({"files": {**_entry("model.onnx", 500 << 20), **_entry("model.a.onnx", 510 << 20), **_entry("model.b.onnx", 99 << 20)}}, "its files have 1162870784 bytes; at most 1073741824"),  # noqa: E501
        ({"files": {f"golden/{n}.png": {} for n in range(641)}}, "names 641 files; a bundle has at most 640"),
        ({"files": _entry("../model.onnx")}, "names '../model.onnx', outside the bundle"),
        ({"files": _entry("/etc/passwd")}, "names '/etc/passwd', outside the bundle"),
        ({"files": _entry("golden/..\\x.png")}, "names 'golden/..\\\\x.png', outside the bundle"),
        ({"files": _entry("C:model.onnx")}, "names 'C:model.onnx', outside the bundle"),
        ({"files": _entry("Model.onnx")}, "names 'Model.onnx', which no bundle has; allowed are model.onnx"),
        ({"files": _entry("mod\u0435l.onnx")}, "names 'mod\\u0435l.onnx', which no bundle has"),
        ({"files": _entry("golden/sub/x.png")}, "names 'golden/sub/x.png', which no bundle has"),
    ],
)  # fmt: skip
def test_wrong_manifest_is_refused(signed, changes, message):
    signed.edit(**changes)
    with pytest.raises(UserError, match=r"bundle\.json: .*" + re.escape(message)):
        signed.read()


def _text(signed: Signed, old: str, new: str) -> bytes:
    text = (signed.root / "bundle.json").read_text()
    assert old in text
    return text.replace(old, new, 1).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda s: _text(s, '"parity": {}', '"parity": {"ap50": NaN}'), "NaN is no number in JSON"),
        (lambda s: _text(s, '"parity": {}', '"parity": {"ap50": 1e999}'), "'1e999' is too large for a number"),
        (lambda s: _text(s, '"parity": {}', '"parity": {"n": %s}' % ("9" * 99)), "it holds a number of 99 digits"),
        (lambda s: _text(s, '"name": "colours"', '"name": "x", "name": "colours"'), "it has the key 'name' twice"),
        (lambda s: _text(s, '"version": "1"', '"version": "\\ud800"'), "it holds half a character"),
        (lambda s: b"[" * 200_000, "it is nested too deeply"),
        (
            lambda s: _text(s, '"parity": {}', '"parity": {"x": %s}' % ("[" * 400 + "]" * 400)),
            "nested more than 64 deep",
        ),
        (lambda s: b"\xff\xfe{}", "it is not UTF-8"),
        (lambda s: b"{", "is no JSON to rely on: Expecting"),
        (lambda s: b"[]", "holds a list"),
        (lambda s: b" " * (5 << 20), "has more than 4194304 bytes"),
        (lambda s: json.dumps(s.manifest).encode(), "was written or sorted by something else than skylight export"),
        (lambda s: canonical_json(s.manifest).replace(b"\n", b"\r\n"), "was written or sorted by something else"),
    ],
)
def test_manifest_with_two_meanings_is_refused(signed: Signed, data: Callable[[Signed], bytes], message: str) -> None:
    rewrite(signed.root, signed.key, data(signed))
    with pytest.raises(UserError, match=r"bundle\.json: .*" + re.escape(message)):
        signed.read()


def _flip(path: Path, place: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


def _other_digits(signed: Signed) -> None:
    """Another digit of the signature itself, which stays base64."""
    kind, fingerprint, key, digits = (signed.root / "signature").read_bytes().split(b" ")
    digits = (b"B" if digits[:1] == b"A" else b"A") + digits[1:]
    (signed.root / "signature").write_bytes(b" ".join((kind, fingerprint, key, digits)))


def _link_to_a_device(signed: Signed) -> None:
    (signed.root / "bundle.json").unlink()
    (signed.root / "bundle.json").symlink_to("/dev/zero")


def _other_fingerprint(signed: Signed) -> None:
    line = (signed.root / "signature").read_bytes()
    own, other = (key.public.fingerprint.encode() for key in (signed.key, signed.other))
    (signed.root / "signature").write_bytes(line.replace(own, other))


def _replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _replace_by_link(path: Path) -> None:
    bundle = next(folder for folder in path.parents if folder.name == "colours-1")
    moved = path.rename(bundle.with_name(path.name))
    path.symlink_to(moved)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: _flip(s.root / "model.onnx"), "model.onnx: has SHA-256 .* says"),
        (lambda s: _flip(s.root / "golden/frame-0.png"), "frame-0.png: has SHA-256 .* says"),
        (lambda s: _flip(s.root / "bundle.json"), "signature: does not fit bundle.json: one of them was changed"),
        (_other_digits, "signature: does not fit bundle.json"),
        (_other_fingerprint, "signature: names .*, and its key is"),
        (lambda s: _flip(s.root / "signature", 0), "signature: is no signature of Skylight's"),
        (lambda s: (s.root / "signature").write_bytes((s.root / "signature").read_bytes()[:99]), "signature: breaks"),
        (lambda s: (s.root / "signature").write_bytes(b"x" * 9999), "signature: has more than 1024 bytes"),
        (lambda s: (s.root / "signature").unlink(), "colours-1: is not signed, and this machine takes signed"),
        (lambda s: rewrite(s.root, s.other, (s.root / "bundle.json").read_bytes()), "who is not trusted here; trusted: maker"),  # noqa: E501
        (lambda s: rewrite(s.root, None, json.dumps(s.manifest).encode()), "signature: does not fit bundle.json"),
        (lambda s: (s.root / "bundle.json").unlink(), "is no bundle: it has no bundle.json"),
        (lambda s: (s.root / "model.onnx").unlink(), "model.onnx: is missing; copy the bundle again"),
        (lambda s: shutil.rmtree(s.root / "golden"), "frame-0.png: is missing"),
        (lambda s: (s.root / "model.onnx").write_bytes(b"x"), r"model.onnx: has 1 bytes, bundle.json says \d+"),
        (lambda s: (s.root / "run.sh").write_text(""), "'run.sh' does not belong to the bundle; remove it"),
        (lambda s: (s.root / "MODEL.ONNX").write_text(""), "'MODEL.ONNX' does not belong"),
        (lambda s: (s.root / "golden" / "\u202ex.png").write_text(""), r"'golden/\\u202ex.png' does not belong"),
        (lambda s: (s.root / "more").mkdir(), "'more' does not belong"),
        (lambda s: _replace_by_link(s.root / "golden/frame-0.png"), "frame-0.png: is a symbolic link"),
        (lambda s: _replace_by_link(s.root / "golden"), "golden: is a symbolic link"),
        (_link_to_a_device, "bundle.json: is a symbolic link"),
        (lambda s: (s.root / "extra").symlink_to("/etc"), "extra: is a symbolic link"),
        (lambda s: _replace_by_pipe(s.root / "model.onnx"), "model.onnx: is no plain file"),
        (lambda s: _replace_by_pipe(s.root / "signature"), "signature: is no plain file"),
        (lambda s: _replace_by_pipe(s.root / "bundle.json"), "bundle.json: is no plain file"),
    ],
)  # fmt: skip
def test_damage_is_refused_with_its_own_message(
    signed: Signed, damage: Callable[[Signed], object], message: str
) -> None:
    damage(signed)
    with pytest.raises(UserError, match=message) as refusal:
        signed.read()
    assert len(str(refusal.value).splitlines()) == 1


def test_zip_bomb_is_refused_before_it_is_loaded(signed):
    from onnx import load_model_from_string

    model = load_model_from_string(colour_model())
    model.graph.initializer[0].dims[:] = [1 << 20, 1 << 7]
    data = model.SerializeToString()
    (signed.root / "model.onnx").write_bytes(data)
    files = signed.manifest["files"] | {"model.onnx": {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}}
    signed.edit(files=files)
    with pytest.raises(UserError, match=r"model\.onnx: tensor .* declares 134217728 elements in \d+ bytes; do not use"):
        signed.read()
