"""The bundle: one folder with everything the drone needs. Its format is defined here, for writing and for reading.

    model.onnx      input "images" (1, 3, H, W) float32, RGB, 0 to 1; outputs "boxes" (1, M, 4) float32, xyxy in pixels
                    of the input, and "scores" (1, M, classes) float32, objectness times class probability
    model.X.onnx    the same network in another precision or at another size, where the manifest lists one
    bundle.json     what the models are, how to feed them, hash and length of every file, provenance, parity report
    golden/         frames, and the detections that they must give
    signature       who made it, over the bytes of bundle.json

Whoever made or damaged it, a bundle that is read is whole: no file is opened before its name, kind and length are
known to be those of the manifest, and no model is loaded before its tensors are known to fit into it. Who may replace
files while they are read is not kept out; that is for the permissions of the folder.

Knows nothing about networks or cameras.
"""

import hashlib
import os
import stat
from pathlib import Path
from typing import Any, Callable, Collection, Dict, List, NamedTuple, Optional, Sequence, Tuple

from deploy.errors import refuse
from deploy.files import new_folder
from deploy.manifest import MANIFEST_LIMIT, SCHEMA, FileEntry, Model, check_manifest, parse_manifest
from deploy.onnx_file import check_onnx
from deploy.signature import SIGNATURE, SIGNATURE_LIMIT, PublicKey, Signature, check_signature
from deploy.strict_json import canonical_json, short

MANIFEST = "bundle.json"
MODEL = "model.onnx"

_COPY = "copy the bundle again"


class Bundle(NamedTuple):
    """A bundle that was read and whose files have the hashes it names.

    models: the first is the one that runs. score_threshold, nms_threshold: 0 to 1.
    anchors: (width, height) pairs in pixels of the input; masks: anchor numbers per head; empty for networks without.
    board: at least a name. provenance, parity: as the workstation wrote them. signature: what is known of who made it.
    """

    root: Path
    name: str
    version: str
    classes: Tuple[str, ...]
    models: Tuple[Model, ...]
    resize_mode: str
    colour_order: str
    score_threshold: float
    nms_threshold: float
    anchors: Tuple[Tuple[float, float], ...]
    masks: Tuple[Tuple[int, ...], ...]
    board: Dict[str, Any]
    files: Dict[str, FileEntry]
    provenance: Dict[str, Any]
    parity: Dict[str, Any]
    signature: Signature

    @property
    def model(self) -> Path:
        """The ONNX file that runs."""
        return self.root / self.models[0].file

    @property
    def width(self) -> int:
        """Of the network's input, pixels."""
        return self.models[0].width

    @property
    def height(self) -> int:
        """Of the network's input, pixels."""
        return self.models[0].height

    def with_model(self, file: str) -> "Bundle":
        """The same bundle, whose model of that file name runs.

        Raises UserError where it has none of that name.
        """
        chosen = [model for model in self.models if model.file == file]
        if not chosen:
            names = ", ".join(model.file for model in self.models)
            raise refuse("model " + short(file), "is not in " + str(self.root), "allowed: " + names)
        return self._replace(models=tuple(chosen + [model for model in self.models if model.file != file]))


def read_bundle(path: Path, trusted: Optional[Sequence[PublicKey]] = None) -> Bundle:
    """Read a bundle and check its signature, its schema, its keys, and kind, length and hash of every file.

    trusted: whose bundles are taken, as `trusted_keys` finds them; None takes everybody's and unsigned ones.
    Raises UserError naming the file or the key, what was found and what is allowed.
    """
    root = Path(path)
    if not (root / MANIFEST).exists() and not (root / MANIFEST).is_symlink():
        raise refuse(root, "is no bundle: it has no " + MANIFEST, "give the folder that skylight export made")
    data = _read(root / MANIFEST, MANIFEST_LIMIT)
    has_signature = os.path.lexists(str(root / SIGNATURE))
    line = _read(root / SIGNATURE, SIGNATURE_LIMIT) if has_signature else None
    signature = check_signature(root / SIGNATURE, line, data, trusted)
    values = parse_manifest(root / MANIFEST, data)
    _check_tree(root, values["files"])
    for name, entry in sorted(values["files"].items()):
        _check_hash(root / name, entry)
    for model in values["models"]:
        check_onnx(root / model.file)
    return Bundle(root=root, signature=signature, **values)


def write_bundle(
    path: Path, files: Dict[str, bytes], manifest: Dict[str, Any], sign: Optional[Callable[[bytes], bytes]] = None
) -> Bundle:
    """Write a bundle, complete or not at all: `files` by name, and `manifest` without schema and files.

    sign: turns the bytes of bundle.json into the content of the file `signature`; None leaves it unsigned.
    The same input gives the same bytes. A bundle that lies there already is replaced; anything else is left alone.
    Raises UserError for what `read_bundle` would not take, and where something else lies at `path`.
    """
    root = Path(path)
    if root.exists() and not (root / MANIFEST).is_file():
        raise refuse(root, "is there, and is no bundle", "move it away, or give another name or version")
    about = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()
    }
    content = dict(manifest, schema=SCHEMA, files=about)
    try:
        data = canonical_json(content)
    except ValueError as error:
        raise refuse(root / MANIFEST, "cannot be written: {}".format(error), "correct what it is made of") from None
    check_manifest(root / MANIFEST, content)
    with new_folder(root) as part:
        for name, file_content in files.items():
            _write(part / name, file_content)
        _write(part / MANIFEST, data)
        if sign is not None:
            _write(part / SIGNATURE, sign(data))
        bundle = read_bundle(part)
    return bundle._replace(root=root)


def _check_tree(root: Path, files: Dict[str, FileEntry]) -> None:
    """Refuse what does not belong, is no plain file, is missing or has another length; opens nothing."""
    folders = {name.split("/")[0] for name in files if "/" in name}
    expected = set(files) | {MANIFEST, SIGNATURE}
    seen = set()
    for name, about in _entries(root, folders):
        if stat.S_ISLNK(about.st_mode):
            raise refuse(root / name, "is a symbolic link", "a bundle holds plain files; " + _COPY)
        if stat.S_ISDIR(about.st_mode) and name in folders:
            continue
        if name not in expected:
            raise refuse(root, short(name) + " does not belong to the bundle", "remove it, or " + _COPY)
        if not stat.S_ISREG(about.st_mode):
            raise refuse(root / name, "is no plain file", _COPY)
        if name in files and about.st_size != files[name].bytes:
            found = "has {} bytes, {} says {}".format(about.st_size, MANIFEST, files[name].bytes)
            raise refuse(root / name, found, _COPY)
        seen.add(name)
    for name in sorted(set(files) - seen):
        raise refuse(root / name, "is missing", _COPY)


def _entries(root: Path, folders: Collection[str]) -> List[Tuple[str, os.stat_result]]:
    """Names, relative with slashes, and what they are, of the bundle's folder and of those that it should have."""
    found = []
    for folder in [""] + sorted(folders):
        path = root / folder
        if folder and not (path.is_dir() and not path.is_symlink()):
            continue  # it was seen already, as what it is, or its files are missing
        try:
            names = sorted(entry.name for entry in path.iterdir())
        except OSError as error:
            raise refuse(path, _reason(error), "give a folder that can be read") from None
        prefix = folder + "/" if folder else ""
        found += [(prefix + name, os.lstat(str(path / name))) for name in names]
    return found


def _check_hash(path: Path, entry: FileEntry) -> None:
    digest = hashlib.sha256()
    left = entry.bytes
    with _open(path) as file:
        while left > 0:
            block = file.read(min(left, 1 << 20))
            if not block:
                break
            digest.update(block)
            left -= len(block)
    found = digest.hexdigest()
    if found != entry.sha256:
        text = "has SHA-256 {}..., {} says {}...".format(found[:12], MANIFEST, entry.sha256[:12])
        raise refuse(path, text, _COPY)


def _read(path: Path, limit: int) -> bytes:
    with _open(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise refuse(path, "has more than {} bytes".format(limit), "export the bundle again")
    return data


def _open(path: Path) -> Any:
    """Open a plain file for reading, and nothing else: no link, no pipe that would wait for ever."""
    try:
        handle = os.open(str(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        what = "is a symbolic link" if path.is_symlink() else _reason(error)
        raise refuse(path, what, "a bundle holds plain files; " + _COPY) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise refuse(path, "is no plain file", _COPY)
    return os.fdopen(handle, "rb")


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
