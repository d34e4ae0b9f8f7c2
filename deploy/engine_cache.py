"""Which engine may be loaded: an engine lies beside a JSON that says what it was built from, for what, by what.

    model-fp16.engine        TensorRT's plan, as any of its tools reads it
    model-fp16.engine.json   its SHA-256 and its key

An engine whose key is not exactly the wanted one, or whose bytes have another hash, is none. Knows nothing of TensorRT.
"""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional

from deploy.errors import refuse
from deploy.files import new_file

_SCHEMA = 1


class EngineKey(NamedTuple):
    """All that decides what an engine is and where it runs; TensorRT promises nothing across any of these.

    builder: version of what we ask of the library. gpu, compute_capability: such as "NVIDIA Tegra X2", "6.2".
    l4t: release of Jetson Linux, "" elsewhere.
    options: what was asked of the builder, and what calibrated it.
    """

    onnx_sha256: str
    library: str
    version: str
    builder: int
    gpu: str
    compute_capability: str
    l4t: str
    precision: str
    options: Dict[str, Any]


class Found(NamedTuple):
    """What lies in the place of an engine. sha256: of the engine if it is the wanted one, or None and the reason."""

    sha256: Optional[str]
    reason: str
    facts: Dict[str, Any]


def note_of(engine: Path) -> Path:
    """The JSON beside an engine."""
    return engine.with_name(engine.name + ".json")


def find_engine(engine: Path, key: EngineKey) -> Found:
    """Look whether `engine` is what `key` asks for, whole."""
    try:
        content = engine.read_bytes()
        note = json.loads(note_of(engine).read_text(encoding="utf-8"))
        found, sha256, facts = note["key"], note["sha256"], note["facts"]
        schema = note["schema"]
    except FileNotFoundError:
        return Found(None, "there is none", {})
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Found(None, "its note cannot be read ({})".format(type(error).__name__), {})
    wanted = json.loads(json.dumps(key._asdict()))
    if schema != _SCHEMA or not isinstance(found, dict):
        return Found(None, "its note has another schema", {})
    for name in wanted:
        if found.get(name) != wanted[name]:
            return Found(None, "{} was {}, is {}".format(name, _short(found.get(name)), _short(wanted[name])), {})
    if hashlib.sha256(content).hexdigest() != sha256:
        return Found(None, "it is cut off or changed", {})
    return Found(sha256, "", facts)


def keep_engine(engine: Path, plan: bytes, key: EngineKey, facts: Dict[str, Any]) -> str:
    """Write engine and note, each whole or not at all; returns the engine's SHA-256.

    The note comes second: whatever happens between the two leaves an engine that its note does not fit.
    """
    sha256 = hashlib.sha256(plan).hexdigest()
    note = {"schema": _SCHEMA, "sha256": sha256, "key": dict(key._asdict()), "facts": facts}
    write_file(engine, plan)
    write_file(note_of(engine), (json.dumps(note, indent=2, sort_keys=True) + "\n").encode("utf-8"))
    return sha256


def write_file(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside `path`, then rename it.

    Raises UserError where the disk is full or the folder may not be written; nothing is left then.
    """
    try:
        with new_file(path) as part:
            part.write_bytes(content)
    except OSError as error:
        raise refuse(path, error.strerror or str(error), "free some space, or give another folder") from None


def require_space(folder: Path, size: int) -> None:
    """Refuse before minutes of building what the disk cannot hold: raises UserError. size: bytes."""
    there = next(part for part in (folder, *folder.resolve().parents) if part.exists())
    free = shutil.disk_usage(str(there)).free
    if free < size:
        found = "{:.0f} MiB free, an engine may need {:.0f} MiB".format(free / 2**20, size / 2**20)
        raise refuse(folder, found, "free some space, or give another folder")


def l4t_release(path: Path = Path("/etc/nv_tegra_release")) -> str:
    """Release of Jetson Linux, such as "32.7.6"; "" on other machines."""
    try:
        line = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(r"# R(\d+) \(release\), REVISION: ([\d.]+)", line)
    return "{}.{}".format(found.group(1), found.group(2)) if found else " ".join(line.split())[:80]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text[:12] + "..." if re.fullmatch("[0-9a-f]{64}", text) else text or "none"
