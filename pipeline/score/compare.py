"""`skylight difference`: two checkpoints of one network, perhaps a third that tells training having gone on from what
the new task moved, and what to freeze by a threshold.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import refuse
from pipeline.files import file_sha256
from pipeline.score.checkpoints import Checkpoint, read_checkpoint, require_same_network
from pipeline.score.difference import LayerDifference, differences, over_null
from pipeline.score.outline import Outline
from pipeline.score.threshold import Rule, freeze_value, layer_figures

__all__ = ["Comparison", "compare", "compared_layers", "layer_numbers", "row_of"]


@dataclass(frozen=True)
class Comparison:
    """What was found.

    Attributes:
        outline: of the part that was compared.
        layers: a difference per convolution of it.
        null: the same of BEFORE against the null checkpoint, or None.
        is_folded: whether the folded difference decides, instead of the raw one.
        threshold, rule, freeze: as asked for, and the value for an experiment file; None where not asked for.
        unrelated: files that began, as their trial says, from other weights than BEFORE.
    """

    before: Path
    after: Path
    null_path: Path | None
    outline: Outline
    layers: tuple[LayerDifference, ...]
    null: tuple[LayerDifference, ...] | None
    is_folded: bool
    threshold: float | None = None
    rule: Rule | None = None
    freeze: int | tuple[int, ...] | None = None
    unrelated: tuple[Path, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """A row per convolution, see `row_of`."""
        nulls = self.null or (None,) * len(self.layers)
        return [row_of(found, null) for found, null in zip(self.layers, nulls, strict=True)]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "network": self.outline.network,
            "before": str(self.before),
            "after": str(self.after),
            "null": None if self.null_path is None else str(self.null_path),
            "decided_by": "folded" if self.is_folded else "raw",
            "threshold": self.threshold,
            "rule": self.rule,
            "freeze": self.freeze,
            "unrelated": [str(path) for path in self.unrelated],
            "convolutions": self.rows(),
        }


def row_of(found: LayerDifference, null: LayerDifference | None) -> dict[str, Any]:
    """The figures of a convolution for JSON and tables.

    index, layer, name, part and mark of the convolution; raw, filter_median, filter_p95, folded; drift, null or with
    mean, variance and scale; null_raw and null_folded of the null task, corrected and corrected_folded over it.
    """
    convolution = found.convolution
    null_raw, null_folded = (None, None) if null is None else (null.raw, null.folded)
    return {
        "index": convolution.index,
        "layer": convolution.layer,
        "name": convolution.name,
        "part": convolution.part,
        "mark": found.mark,
        "raw": found.raw,
        "filter_median": found.filter_median,
        "filter_p95": found.filter_p95,
        "folded": found.folded,
        "drift": None if found.drift is None else asdict(found.drift),
        "null_raw": null_raw,
        "null_folded": null_folded,
        "corrected": over_null(found.raw, null_raw),
        "corrected_folded": over_null(found.folded, null_folded),
    }


def compare(
    before: str,
    after: str,
    network: str | None = None,
    null: str | None = None,
    reinitialised: Collection[int] | None = None,
    part: str = "all",
    is_folded: bool = False,
    threshold: float | None = None,
    rule: Rule = "below",
) -> Comparison:
    """Compare two checkpoints, each a trial's folder or a weights file.

    Args:
        network: of files that do not say it themselves.
        null: a third checkpoint, BEFORE trained on for as many iterations on its own data.
        reinitialised: layers that were random when the training towards AFTER began, besides those that a trial names.
        part: one of PARTS.

    Raises:
        UserError: what cannot be read or does not belong together.
    """
    old, new = read_checkpoint(before, network), read_checkpoint(after, network)
    third = None if null is None else read_checkpoint(null, network)
    for other in (new, third):
        if other is not None:
            require_same_network(old, other)
    if network is not None and all(one.trial for one in (old, new, third) if one is not None):
        raise refuse(f"--network {network}", "both are trials', which say it themselves", "leave it out")
    unknown = sorted(set(reinitialised or ()) - set(old.outline.layers))
    if unknown:
        known = ", ".join(map(str, old.outline.layers))
        raise refuse(f"--reinitialised {unknown[0]}", "no layer with weights", f"layers with weights are {known}")
    outline = old.outline.only(part)
    random = _reinitialised_between(old, new) | frozenset(reinitialised or ())
    layers, nulls = compared_layers(outline, old, new, third, random)
    value = None if threshold is None else freeze_value(outline, layer_figures(layers, is_folded), threshold, rule)
    return Comparison(
        old.path,
        new.path,
        third.path if third else None,
        outline,
        layers,
        nulls,
        is_folded,
        threshold,
        None if threshold is None else rule,
        value,
        tuple(other.path for other in (new, third) if other is not None and not _may_begin_at(old, other)),
    )


def compared_layers(
    outline: Outline, before: Checkpoint, after: Checkpoint, null: Checkpoint | None, reinitialised: Collection[int]
) -> tuple[tuple[LayerDifference, ...], tuple[LayerDifference, ...] | None]:
    """The differences of AFTER and of the null checkpoint against BEFORE, convolution by convolution.

    Raises:
        UserError: the null checkpoint lacks a layer.
    """
    layers = differences(outline, before.weights, after.weights, reinitialised)
    if null is None:
        return layers, None
    by_name = {found.convolution.name: found for found in differences(outline, before.weights, null.weights)}
    missing = [found.convolution.name for found in layers if found.convolution.name not in by_name]
    if missing:
        raise refuse(null.path, f"holds no {missing[0]}", "give BEFORE trained on")
    return layers, tuple(by_name[found.convolution.name] for found in layers)


def _reinitialised_between(before: Checkpoint, after: Checkpoint) -> frozenset[int]:
    """Layers that some trial's records say were random between the two: in BEFORE already, or when AFTER's began."""
    is_one_trial = before.trial is not None and after.trial is not None and _root(before) == _root(after)
    at_begin = frozenset() if is_one_trial else after.random_before()
    return before.random_after() | after.random_after() | at_begin


def _may_begin_at(before: Checkpoint, after: Checkpoint) -> bool:
    """Whether AFTER's trial began with BEFORE's file, or is BEFORE's own, or no trial is there to say."""
    if after.trial is None or (before.trial is not None and _root(before) == _root(after)):
        return True
    return after.trial.read()[0].start_sha256 == file_sha256(before.path)


def layer_numbers(text: str | None) -> Sequence[int] | None:
    """Read `15,22`.

    Raises:
        UserError: something else.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise refuse(f"--reinitialised {text}", "no numbers of layers", "give for example 15,22")
    return [int(part) for part in parts]


def _root(checkpoint: Checkpoint) -> Path:
    assert checkpoint.trial is not None
    return checkpoint.trial.root.resolve()
