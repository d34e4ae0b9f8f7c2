"""Layer differences for a terminal. Knows nothing of how they were computed."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report.columns import ruled
from pipeline.score.compare import Comparison
from pipeline.score.threshold import freeze_line

__all__ = ["difference_text", "figure_text"]


def difference_text(compared: Comparison) -> str:
    """A row per convolution, and what to freeze where a threshold was given."""
    rows = compared.rows()
    has_null = compared.null is not None
    lines = [f"{compared.outline.network}: {compared.before} to {compared.after}"]
    lines += ruled([_head(has_null), *(_row(row, has_null, compared.is_folded) for row in rows)], left=3)
    lines.append(
        "raw: |1 - cos| of the kernels; median, p95: over the filters; folded: with batch norm; mean, var, scale:"
    )
    lines.append("relative change of batch norm. docs/score.md says more.")
    for path in compared.unrelated:
        lines.append(f"{path} was not trained from {compared.before}: how far apart they are is no measure of training")
    if has_null:
        lines.append(f"corrected: {_decided(compared)} over that of the null task {compared.null_path}")
    if compared.freeze is not None:
        lines.append(f"{_decided(compared)} {_RULES[compared.rule or 'below']} {compared.threshold:g}:")
        lines.append(freeze_line(compared.freeze))
    return "\n".join(lines)


_RULES = {
    "below": "of every convolution of a frozen layer is at most",
    "prefix": "of every convolution before the first layer that learns is at most",
    "above": "of some convolution of a frozen layer is above",
}


def figure_text(value: float | None) -> str:
    """Three digits, since differences span many powers of ten; 0 is exactly 0."""
    return "-" if value is None else "0" if value == 0 else f"{value:.3g}"


def _decided(compared: Comparison) -> str:
    return "folded" if compared.is_folded else "raw"


def _head(has_null: bool) -> list[str]:
    head = ["#", "layer", "convolution", "raw", "median", "p95", "folded", "mean", "var", "scale"]
    return [*head, "null", "corrected"] if has_null else head


def _row(row: Mapping[str, Any], has_null: bool, is_folded: bool) -> Sequence[str]:
    start = [str(row["index"]), str(row["layer"]), row["name"]]
    suffix = "_folded" if is_folded else ""
    if row["mark"] is not None:
        return [*start, row["mark"], *[""] * (8 if has_null else 6)]
    moved = row["drift"] or {"mean": None, "variance": None, "scale": None}
    figures = [row["raw"], row["filter_median"], row["filter_p95"], row["folded"], *moved.values()]
    if has_null:
        figures += [row["null_folded" if is_folded else "null_raw"], row[f"corrected{suffix}"]]
    return [*start, *map(figure_text, figures)]
