"""The bundle: one folder with everything the drone needs. Its format is defined here, for writing and for reading.

    model.onnx      input "images" (1, 3, H, W) float32, RGB, 0 to 1; outputs "boxes" (1, M, 4) float32, xyxy in pixels
                    of the input, and "scores" (1, M, classes) float32, objectness times class probability
    bundle.json     what the model is, how to feed it, hashes of every other file, provenance, parity report

Knows nothing about networks or cameras.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, NamedTuple, Tuple

from deploy.errors import refuse
from deploy.resize import RESIZE_MODES

BUNDLE_SCHEMA = 1
MANIFEST = "bundle.json"
MODEL = "model.onnx"


class Bundle(NamedTuple):
    """A bundle that was read and whose files have the hashes it names.

    width, height: of the network's input, pixels. score_threshold, nms_threshold: 0 to 1.
    anchors: (width, height) pairs in pixels of the input; masks: anchor numbers per head.
    hashes: file name -> SHA-256. provenance, parity: as the workstation wrote them.
    """

    root: Path
    name: str
    version: str
    classes: Tuple[str, ...]
    width: int
    height: int
    resize_mode: str
    colour_order: str
    score_threshold: float
    nms_threshold: float
    anchors: Tuple[Tuple[float, float], ...]
    masks: Tuple[Tuple[int, ...], ...]
    board: str
    hashes: Dict[str, str]
    provenance: Dict[str, Any]
    parity: Dict[str, Any]

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.root / MODEL


_KEYS = {
    "schema": int,
    "name": str,
    "version": str,
    "classes": list,
    "width": int,
    "height": int,
    "resize_mode": str,
    "colour_order": str,
    "score_threshold": float,
    "nms_threshold": float,
    "anchors": list,
    "masks": list,
    "board": str,
    "hashes": dict,
    "provenance": dict,
    "parity": dict,
}


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and check its schema, its keys and the hash of every file.

    Raises UserError naming the file or the key, what was found and what is allowed.
    """
    root = Path(path)
    manifest_path = root / MANIFEST
    try:
        content = json.loads(manifest_path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise refuse(root, "is no bundle: it has no " + MANIFEST, "give the folder that skylight export made") from None
    except (OSError, ValueError) as error:
        raise refuse(manifest_path, "cannot be read ({})".format(_one_line(error)), "export the bundle again") from None
    if not isinstance(content, dict) or content.get("schema") != BUNDLE_SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise refuse(manifest_path, "schema is {!r}".format(found), "this version reads {}".format(BUNDLE_SCHEMA))
    _check_keys(manifest_path, content)
    _check_files(root, content["hashes"])
    values = {key: content[key] for key in _KEYS if key != "schema"}
    values["classes"] = tuple(values["classes"])
    try:
        values["anchors"] = tuple((float(width), float(height)) for width, height in values["anchors"])
        values["masks"] = tuple(tuple(int(index) for index in mask) for mask in values["masks"])
    except (TypeError, ValueError):
        raise refuse(manifest_path, "anchors or masks are no lists of numbers", "export the bundle again") from None
    return Bundle(root=root, **values)


def write_bundle(path: Path, files: Dict[str, bytes], manifest: Dict[str, Any]) -> Bundle:
    """Write a bundle, complete or not at all: `files` by name, and `manifest` without schema and hashes.

    The same input gives the same bytes. A bundle that lies there already is replaced.
    """
    root = Path(path)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    content = dict(manifest, schema=BUNDLE_SCHEMA, hashes=hashes)
    _check_keys(root / MANIFEST, content)
    root.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix="." + root.name + "-", dir=str(root.parent)))
    old = part.with_name(part.name + ".old")
    try:
        for name, data in files.items():
            _write(part / name, data)
        _write(part / MANIFEST, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode("utf-8"))
        part.chmod(0o755)
        if root.exists():
            root.rename(old)
        part.rename(root)
    finally:
        shutil.rmtree(str(part), ignore_errors=True)
        shutil.rmtree(str(old), ignore_errors=True)
    return read_bundle(root)


def _check_keys(path: Path, content: Dict[str, Any]) -> None:
    for key, kind in _KEYS.items():
        if key not in content:
            raise refuse(path, "has no key " + key, "export the bundle again")
        allowed = (int, float) if kind is float else kind
        if not isinstance(content[key], allowed) or isinstance(content[key], bool):
            raise refuse(path, "{}={!r}".format(key, content[key]), "{} takes a {}".format(key, kind.__name__))
    for key in content:
        if key not in _KEYS:
            raise refuse(path, "unknown key {}={!r}".format(key, content[key]), "known: " + ", ".join(_KEYS))
    limits = {
        "resize_mode": RESIZE_MODES,
        "colour_order": ("rgb",),
    }
    for key, values in limits.items():
        if content[key] not in values:
            raise refuse(path, "{}={!r}".format(key, content[key]), "allowed: " + ", ".join(values))
    for key in ("width", "height"):
        if content[key] < 32 or content[key] % 32:
            raise refuse(path, "{}={}".format(key, content[key]), key + " is a multiple of 32")
    for key in ("score_threshold", "nms_threshold"):
        if not 0 < content[key] < 1:
            raise refuse(path, "{}={}".format(key, content[key]), key + " lies between 0 and 1")
    if not content["classes"] or not all(isinstance(name, str) for name in content["classes"]):
        raise refuse(path, "classes={!r}".format(content["classes"]), "classes lists at least one name")
    for name in content["hashes"]:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise refuse(path, "names {!r}, outside the bundle".format(name), "export the bundle again")


def _check_files(root: Path, hashes: Dict[str, str]) -> None:
    if not all(isinstance(value, str) for value in hashes.values()):
        raise refuse(root / MANIFEST, "hashes are no texts", "export the bundle again")
    if MODEL not in hashes:
        raise refuse(root / MANIFEST, "names no " + MODEL, "export the bundle again")
    there = {str(entry.relative_to(root)) for entry in root.rglob("*") if not entry.is_dir()}
    for name in sorted(there - set(hashes) - {MANIFEST}):
        raise refuse(root / name, "does not belong to the bundle", "remove it")
    for name, expected in sorted(hashes.items()):
        try:
            found = hashlib.sha256((root / name).read_bytes()).hexdigest()
        except OSError as error:
            raise refuse(root / name, _one_line(error), "export the bundle again") from None
        if found != expected:
            found_text = "has SHA-256 {}..., {} says {}...".format(found[:12], MANIFEST, expected[:12])
            raise refuse(root / name, found_text, "copy the bundle again")


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _one_line(error: BaseException) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())
