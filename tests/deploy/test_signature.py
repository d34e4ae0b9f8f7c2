"""Who made a bundle is checked where it is known whom to trust, and said to be unknown elsewhere."""

import builtins
import json
import re
import shutil
from pathlib import Path

import cv2
import pytest
from colour_model import square, write_colour_bundle
from nacl.signing import SigningKey as Ed25519
from signed_bundle import edit, make_key, rewrite, write_signed

import deploy.signature
from deploy.bundle import read_bundle
from deploy.cli import main
from deploy.errors import UserError
from deploy.signature import parse_public_key, signature_line, trusted_keys
from pipeline.export.keys import read_key


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """keys/ of two makers, colours-1 signed by the first, trusted/ with its public key."""
    folder = tmp_path_factory.mktemp("signed")
    write_signed(folder / "colours-1", make_key(folder / "keys", "maker"))
    make_key(folder / "keys", "other")
    (folder / "trusted").mkdir()
    shutil.copy(folder / "keys" / "maker.pub", folder / "trusted")
    cv2.imwrite(str(folder / "red.png"), square(1, 1, (250, 20, 20)))
    return folder


@pytest.fixture
def without_pynacl(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyNaCl cannot be imported, as on a drone that has none."""
    load = builtins.__import__

    def fail(name: str, *arguments: object, **options: object) -> object:
        if name.split(".")[0] == "nacl":
            raise ImportError(name)
        return load(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", fail)


def test_nobody_is_trusted_in_particular_where_nothing_is_set_up(made, tmp_path, monkeypatch):
    monkeypatch.setattr(deploy.signature, "TRUSTED", tmp_path / "none")
    assert trusted_keys() is None
    found = read_bundle(made / "colours-1", trusted_keys()).signature
    assert found.is_checked
    assert found.trusted_as is None
    assert "no trusted keys are set up here, so WHO MADE IT IS NOT CHECKED" in found.text
    unsigned = read_bundle(write_colour_bundle(tmp_path / "colours-1").root)
    assert unsigned.signature.text.startswith("not signed; no trusted keys are set up here")


def test_default_folder_decides_where_it_is_there(made, tmp_path, monkeypatch):
    monkeypatch.setattr(deploy.signature, "TRUSTED", made / "trusted")
    trusted = trusted_keys()
    assert trusted is not None
    assert [key.name for key in trusted] == ["maker"]
    with pytest.raises(UserError, match="is not signed, and this machine takes signed bundles alone"):
        read_bundle(write_colour_bundle(tmp_path / "colours-1").root, trusted)


def test_mistake_in_the_folder_does_not_turn_the_check_off(made, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="nowhere: No such file"):
        trusted_keys(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    for folder in (None, tmp_path / "empty"):
        monkeypatch.setattr(deploy.signature, "TRUSTED", tmp_path / "empty")
        with pytest.raises(UserError, match=r"empty: holds no trusted key"):
            trusted_keys(folder)
    (tmp_path / "empty" / "broken.pub").write_text("ed25519 x maker")
    with pytest.raises(UserError, match=r"broken\.pub: is no public key"):
        trusted_keys(tmp_path / "empty")


def test_damaged_public_key_is_refused(made, tmp_path):
    line = (made / "keys" / "maker.pub").read_text()
    kind, key, name, fingerprint = line.split()
    other = (made / "keys" / "other.pub").read_text().split()
    for text, message in (
        (" ".join((kind, other[1], name, fingerprint)), "has fingerprint .*, and says"),
        (" ".join((kind, key[:-2] + "==", name, fingerprint)), "is no base64"),
        (" ".join((kind, key, "../name", fingerprint)), "is no public key"),
        (line * 2, "is no public key"),
        ("ed25519 \u0435", "is no public key"),
    ):
        (tmp_path / "x.pub").write_text(text)
        with pytest.raises(UserError, match=rf"x\.pub: .*{message}"):
            parse_public_key(tmp_path / "x.pub")
    assert parse_public_key(made / "keys" / "maker.pub").line == line


def test_broken_signature_is_refused_where_nobody_is_trusted_too(made, tmp_path):
    root = shutil.copytree(made / "colours-1", tmp_path / "colours-1")
    edit(root, None, score_threshold=0.1)
    with pytest.raises(UserError, match=r"does not fit bundle\.json"):
        read_bundle(root)


def test_key_inside_the_bundle_convinces_nobody(made, tmp_path):
    """Whoever changes a bundle can sign it with a key of his own."""
    root = shutil.copytree(made / "colours-1", tmp_path / "colours-1")
    intruder = make_key(tmp_path / "keys", "maker")
    rewrite(root, intruder, (root / "bundle.json").read_bytes())
    assert read_bundle(root).signature.fingerprint == intruder.public.fingerprint
    with pytest.raises(UserError, match="who is not trusted here; trusted: maker"):
        read_bundle(root, trusted_keys(made / "trusted"))


def test_missing_pynacl_is_an_error_where_it_is_needed(made, without_pynacl):
    with pytest.raises(UserError, match=r"PyNaCl: not installed.*pip install 'PyNaCl>=1.5'.*1\.5\.0"):
        read_bundle(made / "colours-1", trusted_keys(made / "trusted"))
    found = read_bundle(made / "colours-1").signature
    assert not found.is_checked
    assert "not checked either, without PyNaCl" in found.text


def test_drone_says_aloud_whom_it_trusts(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(deploy.signature, "TRUSTED", tmp_path / "none")
    command = ["--bundle", str(made / "colours-1"), "--source", str(made / "red.png"), "--out"]
    assert main([*command, str(tmp_path / "a"), "--golden"]) == 0
    assert "WHO MADE IT IS NOT CHECKED" in capsys.readouterr().out
    assert main([*command, str(tmp_path / "b"), "--golden", "--trusted", str(made / "trusted")]) == 0
    assert "NOT CHECKED" not in capsys.readouterr().out
    header = json.loads((tmp_path / "b" / "detections.jsonl").read_text().splitlines()[0])
    assert re.fullmatch(r"signed by maker \([0-9a-f]{32}\), who is trusted here", header["trust"])
    assert header["model"] == "model.onnx"


def test_drone_refuses_what_it_does_not_trust(made, tmp_path, capsys):
    unsigned = write_colour_bundle(tmp_path / "colours-1").root
    command = ["--source", str(made / "red.png"), "--out", str(tmp_path / "out"), "--trusted", str(made / "trusted")]
    assert main(["--bundle", str(unsigned), *command]) == 2
    output = capsys.readouterr()
    assert output.err.splitlines() == [
        f"skylight-detect: {unsigned}: is not signed, and this machine takes signed bundles alone; "
        "make a key with skylight keys new, and export it again"
    ]
    assert not (tmp_path / "out").exists()
    assert main(["--bundle", str(made / "colours-1"), *command, "--model", "model.x.onnx"]) == 2
    assert "allowed: model.onnx" in capsys.readouterr().err


def _with_signature(made: Path, folder: Path, line: bytes) -> Path:
    root = Path(shutil.copytree(made / "colours-1", folder / "colours-1"))
    (root / "signature").write_bytes(line)
    return root


def test_signature_over_the_manifest_alone_is_refused(made, tmp_path):
    """Whatever else a key signs must not pass for a bundle, nor a bundle for it."""
    key = read_key(made / "keys" / "maker.key")
    signature = Ed25519(key.seed).sign((made / "colours-1" / "bundle.json").read_bytes()).signature
    root = _with_signature(made, tmp_path, signature_line(key.public, signature))
    with pytest.raises(UserError, match=r"does not fit bundle\.json"):
        read_bundle(root, trusted_keys(made / "trusted"))


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (b"ed25519", "is of an older Skylight, .*; export the bundle again"),
        (b"skylight-bundle-2", "is of version 2; install that Skylight here; this one reads 1"),
        (b"skylight-bundle-0", "is no signature of Skylight's"),
    ],
)
def test_signature_of_another_version_says_what_to_do(made, tmp_path, version, message):
    line = (made / "colours-1" / "signature").read_bytes()
    root = _with_signature(made, tmp_path, line.replace(b"skylight-bundle-1", version))
    for trusted in (None, trusted_keys(made / "trusted")):
        with pytest.raises(UserError, match=rf"signature: {message}"):
            read_bundle(root, trusted)
