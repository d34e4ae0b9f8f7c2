"""What was written of a layer's features, and what a simple classifier makes of them, for a terminal."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.report.columns import ruled
from pipeline.score.feature_probe import FeatureProbe
from pipeline.score.subject import Subject

__all__ = ["features_text", "probe_text"]


def features_text(path: Path, shape: Sequence[int], subject: Subject) -> str:
    """One line."""
    size = f"{subject.width} x {subject.height} pixels"
    what = f"layer {subject.layer} ({subject.layer_name}) of {subject.name}, weights {subject.weights}"
    return f"{path}: {' x '.join(map(str, shape))} float32, {what}, {size}"


def probe_text(probe: FeatureProbe) -> str:
    """A row per split, with the accuracy of every class."""
    classes = [entry.name for entry in next(iter(probe.found.values())).per_class]
    rows = [["split", "crops", "accuracy", "F1", "precision", "all", *classes]]
    for split, found in probe.found.items():
        means = (found.mean_class_accuracy, found.mean_f1, found.mean_precision, found.accuracy)
        per_class = [entry.accuracy for entry in found.per_class]
        rows.append([split, str(sum(entry.crops for entry in found.per_class)), *map(_percent, [*means, *per_class])])
    lines = [f"{probe.method}, fitted on {probe.fitted} rows of train", *ruled(rows)]
    lines.append("In %: means over the classes, the share of all rows, the share of each class that was recognised.")
    if probe.left_out:
        lines.append(
            f"{probe.left_out} rows without a label, or with several, are left out; --crops labels each object."
        )
    if not probe.has_converged:
        lines.append("The logistic regression was ended before it converged.")
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
