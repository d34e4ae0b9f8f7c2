"""What differs between two bundles, part by part and in words. Knows nothing of what made them differ."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.bundle import Bundle
from deploy.golden import Golden, read_golden
from deploy.manifest import GOLDEN
from pipeline.errors import refuse

__all__ = ["Change", "as_exported", "bundle_changes"]

_FACTS = ("name", "version", "resize_mode", "colour_order", "score_threshold", "nms_threshold", "anchors", "masks")


@contextlib.contextmanager
def as_exported(root: Path) -> Iterator[None]:
    """Refuse a bundle whose provenance or parity report turns out inside the block to be none that export writes.

    The drone does not read them, so that the format leaves them open.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        found = "its provenance or parity report is not what this version's export writes"
        raise refuse(root, found, "look into bundle.json yourself, or export it again") from None


@dataclass(frozen=True)
class Change:
    """part: of the bundle. before, after: short texts, empty for what is not there."""

    part: str
    before: str
    after: str


def bundle_changes(before: Bundle, after: Bundle) -> list[Change]:
    """Every difference, in the order of their weight.

    Raises:
        UserError: one of them holds reports that are not Skylight's, or damaged golden frames.
    """
    old, new = _parts(before), _parts(after)
    changes = list(_classes(before, after))
    for prefix in old:
        changes += _values(prefix, old[prefix], new[prefix])
    signers = [{"signed by": bundle.signature.fingerprint} for bundle in (before, after)]
    return [*changes, *_values("", *signers)]


def _parts(bundle: Bundle) -> dict[str, Mapping[str, Any]]:
    """What is compared, by what is written before the keys."""
    with as_exported(bundle.root):
        return {
            "": _facts(bundle),
            "model ": _models(bundle),
            "board ": dict(_flat(bundle.board)),
            "trained: ": _origin(bundle),
            "data of ": _sets(bundle),
            "version of ": dict(_flat(bundle.provenance.get("versions", {}))),
            "parity with ": _parity(bundle),
            "golden ": _golden(bundle),
            "file ": _files(bundle),
        }


def _classes(before: Bundle, after: Bundle) -> Iterator[Change]:
    if before.classes == after.classes:
        return
    for name in before.classes:
        if name not in after.classes:
            yield Change("class", name, "")
    for name in after.classes:
        if name not in before.classes:
            yield Change("class", "", name)
    yield Change("classes, in order", ", ".join(before.classes), ", ".join(after.classes))


def _facts(bundle: Bundle) -> dict[str, Any]:
    return {key.replace("_", " "): getattr(bundle, key) for key in _FACTS}


def _models(bundle: Bundle) -> dict[str, Any]:
    return {model.file: f"{model.width}x{model.height} {model.precision}" for model in bundle.models}


def _origin(bundle: Bundle) -> dict[str, Any]:
    origin = bundle.provenance
    return {
        "weights": str(origin.get("weights_sha256", ""))[:12],
        "trained as": "/".join(str(origin.get(key, "?")) for key in ("experiment", "stage", "trial")),
        "AP@0.5 on val": origin.get("best_ap50"),
        "seeds": origin.get("seeds"),
        "licences": origin.get("licences"),
    }


def _sets(bundle: Bundle) -> dict[str, Any]:
    steps = bundle.provenance.get("chain", ())
    return {step["stage"]: f"{step['data']} {step['data_hash'][:12]}" for step in steps if step.get("kind") == "trial"}


def _parity(bundle: Bundle) -> dict[str, Any]:
    """The figures of each comparison, by name."""
    return {
        f"{one['against']} {one['precision']} at {report['input']}, {name}": value
        for report in bundle.parity.get("inputs", ())
        for one in report["comparisons"]
        for name, value in one.items()
        if isinstance(value, int | float)
    }


def _golden(bundle: Bundle) -> dict[str, Any]:
    if GOLDEN not in bundle.files:
        return {}
    golden: Golden = read_golden(bundle)
    return {
        "frames": ", ".join(frame.image for frame in golden.frames),
        "score threshold": golden.score_threshold,
        "detections": sum(len(found.scores) for frame in golden.frames for found in frame.expected.values()),
    }


def _files(bundle: Bundle) -> dict[str, Any]:
    return {name: f"{entry.bytes} bytes, SHA-256 {entry.sha256[:12]}" for name, entry in bundle.files.items()}


def _flat(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Single values by the names that lead to them; entries of a list that have names of their own go by these."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(inner, (*path, str(name)))
    elif isinstance(value, list) and value and all(isinstance(entry, Mapping) for entry in value):
        names = [str(entry.get("name", number)) for number, entry in enumerate(value)]
        are_own = len(set(names)) == len(names)
        for number, entry in enumerate(value):
            yield from _flat(entry, (*path, names[number] if are_own else str(number)))
    elif path:
        yield " ".join(path), value


def _values(prefix: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for key in dict.fromkeys((*before, *after)):
        old, new = before.get(key), after.get(key)
        if old != new:
            yield Change(f"{prefix}{key}", _text(old), _text(new))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) if value else "none"
    return str(value)
