"""The manifest of a bundle, bundle.json: its schema, read strictly. Opens no file.

schema              2
name, version       letters, digits, `_.-`, at most 64
classes             names in the order of the columns of scores
models              file, width, height (of the input, pixels), precision; the first is the default
resize_mode         stretch or letterbox
colour_order        rgb
score_threshold     nms_threshold           between 0 and 1
anchors             (width, height) in pixels of the input; masks: anchor numbers per head; empty for networks
                    without them
board               name, and what the board's own file says of it
files               by name: bytes and SHA-256 of every file but bundle.json and signature
provenance, parity  as the workstation wrote them
"""

import re
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Sequence, Tuple

from deploy.errors import refuse
from deploy.strict_json import canonical_json, parse_json, short

SCHEMA = 2
PRECISIONS = ("fp32", "fp16", "int8")
RESIZE_MODES = ("stretch", "letterbox")
COLOUR_ORDER = "rgb"  # that networks take; no export writes another
MANIFEST_LIMIT = 4 << 20  # bytes
GOLDEN = "golden/golden.json"

# What a file of a bundle may be called, and how many bytes it may have. Lower-case ASCII alone, so that no two names
# are one file on some other disk. YOLOv3, the largest network shipped, takes 248 MB.
_FILES = (
    (re.compile(r"model(\.[a-z0-9][a-z0-9_-]{0,31})*\.onnx"), 512 << 20),
    (re.compile(r"golden/golden\.json"), 4 << 20),
    (re.compile(r"(golden|calibration)/[a-z0-9][a-z0-9_-]{0,63}\.png"), 16 << 20),
)
_ALLOWED_NAMES = "model.onnx, model.NAME.onnx, golden/golden.json, golden/NAME.png and calibration/NAME.png"
_FILE_COUNT = 640
_ALL_BYTES = 1 << 30
_AGAIN = "export the bundle again"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Model(NamedTuple):
    """An ONNX file of the bundle. width, height: of its input, pixels. precision: one of PRECISIONS."""

    file: str
    width: int
    height: int
    precision: str


class FileEntry(NamedTuple):
    """What the manifest says of a file: its length in bytes, and its SHA-256, hexadecimal."""

    bytes: int
    sha256: str


def parse_manifest(path: Path, data: bytes) -> Dict[str, Any]:
    """Read and check the bytes of a manifest; returns its values by key, without schema.

    path: for messages. Models are Model, files are FileEntry by name, lists are tuples.
    Raises UserError naming the key, what was found and what is allowed.
    """
    try:
        content = parse_json(data)
    except ValueError as error:
        raise refuse(path, "is no JSON to rely on: {}".format(_one_line(error)), _AGAIN) from None
    values = check_manifest(path, content)
    if canonical_json(content) != data:
        raise refuse(path, "was written or sorted by something else than skylight export", "copy the bundle again")
    return values


def check_manifest(path: Path, content: Any) -> Dict[str, Any]:
    """The same for JSON that was read already.

    Raises UserError naming the key, what was found and what is allowed.
    """
    _check_schema(path, content)
    for key, kind in _KINDS.items():
        if key not in content:
            raise refuse(path, "has no key " + key, _AGAIN)
        allowed = (int, float) if kind is float else kind
        if not isinstance(content[key], allowed) or isinstance(content[key], bool):
            raise refuse(path, "{}={}".format(key, short(content[key])), "{} takes a {}".format(key, kind.__name__))
    for key in content:
        if key not in _KINDS:
            raise refuse(
                path, "unknown key {}={}".format(short(key), short(content[key])), "known: " + ", ".join(_KINDS)
            )
    for key, is_right, remedy in _RULES:
        if not is_right(content[key]):
            raise refuse(path, "{}={}".format(key, short(content[key])), remedy)
    values = {key: content[key] for key in _KINDS if key != "schema"}
    values["classes"] = tuple(content["classes"])
    values["anchors"] = tuple((float(width), float(height)) for width, height in content["anchors"])
    values["masks"] = _masks(path, content["masks"], len(values["anchors"]))
    values["files"] = _files(path, content["files"])
    values["models"] = _models(path, content["models"], values["files"])
    return values


_KINDS = {
    "schema": int,
    "name": str,
    "version": str,
    "classes": list,
    "models": list,
    "resize_mode": str,
    "colour_order": str,
    "score_threshold": float,
    "nms_threshold": float,
    "anchors": list,
    "masks": list,
    "board": dict,
    "files": dict,
    "provenance": dict,
    "parity": dict,
}


def _is_class_list(names: Sequence[Any]) -> bool:
    return 0 < len(names) <= 10000 and all(
        isinstance(name, str) and name.isprintable() and 0 < len(name) <= 200 for name in names
    )


def _are_pairs(anchors: Sequence[Any]) -> bool:
    return all(
        isinstance(pair, list) and len(pair) == 2 and all(_is_positive(side) for side in pair) for pair in anchors
    )


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _is_board(board: Dict[str, Any]) -> bool:
    return isinstance(board.get("name"), str) and bool(NAME.fullmatch(board["name"]))


_Rule = Tuple[str, Callable[[Any], bool], str]
_RULES: Tuple[_Rule, ...] = (
    ("name", lambda name: bool(NAME.fullmatch(name)), "name has letters, digits and _.- alone, at most 64"),
    ("version", lambda name: bool(NAME.fullmatch(name)), "version has letters, digits and _.- alone, at most 64"),
    ("classes", _is_class_list, "classes lists at least one name that can be printed"),
    ("resize_mode", lambda mode: mode in RESIZE_MODES, "allowed: " + ", ".join(RESIZE_MODES)),
    ("colour_order", lambda order: order == COLOUR_ORDER, "allowed: " + COLOUR_ORDER),
    ("score_threshold", lambda value: 0 < value < 1, "score_threshold lies between 0 and 1"),
    ("nms_threshold", lambda value: 0 < value < 1, "nms_threshold lies between 0 and 1"),
    ("anchors", _are_pairs, "anchors lists pairs of numbers above 0"),
    ("board", _is_board, "board has at least a name, of letters, digits and _.-"),
)


def _check_schema(path: Path, content: Any) -> None:
    if not isinstance(content, dict):
        raise refuse(path, "holds a " + type(content).__name__, _AGAIN)
    schema = content.get("schema")
    if schema == SCHEMA and not isinstance(schema, bool):
        return
    found = "schema is " + short(schema)
    if isinstance(schema, int) and schema > SCHEMA:
        raise refuse(path, found + ", of a newer Skylight", "install that one here; this one reads {}".format(SCHEMA))
    if isinstance(schema, int) and 0 < schema < SCHEMA:
        raise refuse(path, found + ", of an older Skylight", "export it again; this one reads {}".format(SCHEMA))
    raise refuse(path, found, "this version reads {}".format(SCHEMA))


def _masks(path: Path, masks: Sequence[Any], count: int) -> Tuple[Tuple[int, ...], ...]:
    for mask in masks:
        is_list = isinstance(mask, list) and all(type(index) is int for index in mask)
        if not is_list or not all(0 <= index < count for index in mask):
            raise refuse(
                path, "masks={}".format(short(masks)), "masks lists numbers of anchors, 0 to {}".format(count - 1)
            )
    return tuple(tuple(mask) for mask in masks)


def _files(path: Path, files: Dict[str, Any]) -> Dict[str, FileEntry]:
    """Check names and limits, before anything of them is opened."""
    if len(files) > _FILE_COUNT:
        raise refuse(path, "names {} files".format(len(files)), "a bundle has at most {}".format(_FILE_COUNT))
    entries = {}
    for name, about in sorted(files.items()):
        limit = _limit(path, name)
        is_entry = isinstance(about, dict) and sorted(about) == ["bytes", "sha256"]
        if not is_entry or type(about["bytes"]) is not int or not _is_hash(about["sha256"]):
            raise refuse(path, "files: {}: {}".format(name, short(about)), "it takes bytes and a SHA-256 of 64 digits")
        if not 0 <= about["bytes"] <= limit:
            found = "says that {} has {} bytes".format(name, about["bytes"])
            raise refuse(path, found, "at most {} are allowed".format(limit))
        entries[name] = FileEntry(about["bytes"], about["sha256"])
    total = sum(entry.bytes for entry in entries.values())
    if total > _ALL_BYTES:
        raise refuse(path, "its files have {} bytes".format(total), "at most {} are allowed".format(_ALL_BYTES))
    return entries


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and bool(_SHA256.fullmatch(value))


def _limit(path: Path, name: str) -> int:
    """Bytes that a file of that name may have."""
    if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or re.match("[A-Za-z]:", name):
        raise refuse(path, "names {}, outside the bundle".format(short(name)), "do not use this bundle; " + _AGAIN)
    for pattern, limit in _FILES:
        if pattern.fullmatch(name):
            return limit
    raise refuse(path, "names {}, which no bundle has".format(short(name)), "allowed are " + _ALLOWED_NAMES)


def _models(path: Path, models: Sequence[Any], files: Dict[str, FileEntry]) -> Tuple[Model, ...]:
    if not models:
        raise refuse(path, "models=[]", "models lists at least one")
    found = []
    for about in models:
        if not isinstance(about, dict) or sorted(about) != sorted(Model._fields):
            raise refuse(path, "models: {}".format(short(about)), "each has " + ", ".join(Model._fields))
        model = Model(**about)
        where = "models: {}: ".format(short(model.file))
        for key in ("width", "height"):
            size = about[key]
            if type(size) is not int or size < 32 or size % 32 or size > 4096:
                raise refuse(
                    path, "{}{}={}".format(where, key, short(size)), key + " is a multiple of 32, at most 4096"
                )
        if model.precision not in PRECISIONS:
            raise refuse(path, where + "precision=" + short(model.precision), "allowed: " + ", ".join(PRECISIONS))
        if not isinstance(model.file, str) or not model.file.endswith(".onnx") or model.file not in files:
            raise refuse(path, where + "is not among its files", _AGAIN)
        found.append(model)
    names = [model.file for model in found]
    for name in files:
        if name.endswith(".onnx") and names.count(name) != 1:
            raise refuse(path, "{} is {} times among models".format(name, names.count(name)), "each is there once")
    return tuple(found)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
