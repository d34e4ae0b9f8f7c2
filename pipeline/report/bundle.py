"""Bundles for a terminal: what one is, where it comes from, what was checked, what differs. Computes nothing.

What comes out of a bundle is printed without control characters: its maker may be anybody.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from deploy.bundle import Bundle
from deploy.golden import TOLERANCES, GoldenReport, read_golden
from pipeline.export.bundle_changes import Change, as_exported
from pipeline.report.parity import parity_text

__all__ = ["bundle_text", "chain_lines", "changes_text", "checked_text", "export_text"]


def bundle_text(bundle: Bundle) -> str:
    """What the bundle is, then the chain from its weights back to where they began.

    Raises:
        UserError: its provenance or parity is not what export writes.
    """
    with as_exported(bundle.root):
        return "\n".join(_plain(line) for line in (*_about(bundle), *chain_lines(bundle.provenance)))


def export_text(bundle: Bundle) -> str:
    """Who signed a bundle that was just made, and what its golden frames prove."""
    signer = bundle.signature.fingerprint
    unsigned = "NOT SIGNED: you have no key; skylight keys new makes one. Drones with trusted keys will refuse it"
    golden = read_golden(bundle)
    count = sum(len(frame.expected[bundle.models[0].file].scores) for frame in golden.frames)
    tells = "" if golden.tells_red_from_blue else "; they would NOT notice if red and blue were swapped"
    weak = [model.precision for model in bundle.models if golden.score_threshold <= TOLERANCES[model.precision].score]
    little = f"; they prove nothing in {', '.join(dict.fromkeys(weak))}: no detection has to be found" if weak else ""
    found = f"{len(golden.frames)} with {count} detections above {golden.score_threshold:g}{tells}{little}"
    return f"golden frames: {found}\n" + (f"signed by {signer}" if signer else unsigned)


def checked_text(bundle: Bundle, reports: Sequence[GoldenReport]) -> str:
    """What `skylight bundle verify` found to be right, a line per check."""
    size = sum(entry.bytes for entry in bundle.files.values())
    lines = [
        f"manifest    schema, keys and limits are right: {bundle.name} {bundle.version}",
        f"files       {len(bundle.files)} with {size} bytes are those of the manifest, and nothing else is there",
        f"models      {', '.join(model.file for model in bundle.models)}: operators of our exports, no tensor "
        "larger than its file",
        f"signature   {bundle.signature.text}",
    ]
    for report in reports:
        lines.append(
            f"golden      {report.model} as {report.precision}: {report.detections} detections on {report.frames} "
            f"frames are found, scores at most {report.score:.4f} away, IoU at least {report.iou:.3f}"
        )
        if not report.tells_red_from_blue:
            lines.append("golden      these frames would not notice if red and blue were swapped")
    if not reports:
        lines.append("golden      not run; add --golden")
    return "\n".join(_plain(line) for line in lines)


def changes_text(changes: Sequence[Change]) -> str:
    """A line per difference."""
    if not changes:
        return "no difference"
    return "\n".join(_plain(_change_text(change)) for change in changes)


def _change_text(change: Change) -> str:
    if not change.before:
        return f"{change.part}: {change.after} is new"
    if not change.after:
        return f"{change.part}: {change.before} is gone"
    return f"{change.part}: {change.before} became {change.after}"


def _about(bundle: Bundle) -> Iterator[str]:
    yield f"{bundle.name} {bundle.version}, for {bundle.board['name']}"
    yield f"  signature   {bundle.signature.text}"
    yield f"  classes     {', '.join(bundle.classes)}"
    for model in bundle.models:
        size = bundle.files[model.file].bytes
        yield f"  model       {model.file}: {model.width}x{model.height}, {model.precision}, {size} bytes"
    yield f"  input       {bundle.colour_order.upper()}, {bundle.resize_mode}"
    yield f"  thresholds  score {bundle.score_threshold:g}, NMS {bundle.nms_threshold:g}"
    if bundle.parity:
        yield "parity with the trained network:"
        yield from (f"  {line}" for line in parity_text(bundle.parity).splitlines())


def chain_lines(origin: dict[str, Any]) -> Iterator[str]:
    """The weights of a bundle and every training before them, from the newest back to chance or published weights."""
    yield f"weights {origin.get('weights_sha256', 'of unknown origin')}"
    for step in origin.get("chain", ()):
        yield from _step(step)
    yield f"licences: {', '.join(origin.get('licences', ())) or 'none named'}"
    machine = origin.get("machine", {})
    yield "trained on: " + (", ".join(f"{key} {value}" for key, value in machine.items()) or "not known")
    versions = origin.get("versions", {})
    yield "exported with: " + (", ".join(f"{name} {version}" for name, version in versions.items()) or "not known")


def _step(step: dict[str, Any]) -> Iterator[str]:
    if step["kind"] == "random":
        yield f"  from random weights, seed {step['seed']}"
    elif step["kind"] == "published":
        yield f"  from {step['name']}, trained on {step['trained_on']} ({', '.join(step['licences'])})"
        yield f"    sha256    {step['sha256']}"
    elif step["kind"] == "file":
        yield f"  from the file {step['name']}, of which nothing more is known"
        yield f"    sha256    {step['sha256']}"
    else:
        yield from _trial(step)


def _trial(step: dict[str, Any]) -> Iterator[str]:
    yield f"  trained as {step['experiment']}/{step['stage']}/{step['trial']}, seed {step['seed']}"
    yield f"    weights   {step['weights_sha256']}"
    at = f"{step['best_iteration']} of {step['iterations']} iterations"
    yield f"    network   {step['network']} at {step['size']}, AP@0.5 on val {100 * step['best_ap50']:.1f} % at {at}"
    frozen = step["frozen"]
    if frozen:
        yield f"    frozen    layers {', '.join(map(str, frozen))}"
    if step["start_layers"] is not None:
        yield f"    start     the layers before {step['start_layers']}; the others at random"
    yield f"    data      {step['data']}, hash {step['data_hash']}"
    if step.get("ledger_sha256"):
        yield f"    ledger    {step['ledger_sha256']}"
    recipe = step.get("recipe")
    if recipe:
        git = recipe["git"]
        clean = "" if not git or git["is_clean"] else ", and was changed since"
        commit = f", commit {git['commit'][:12]}{clean}" if git else ""
        yield f"    recipe    {recipe['file'] or recipe['name']}, hash {recipe['sha256']}{commit}"


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
