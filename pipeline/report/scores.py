"""The scores of an experiment for a terminal and for plots. Knows nothing of how they were computed."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import refuse
from pipeline.report.columns import ruled
from pipeline.report.difference import figure_text
from pipeline.score.outline import PARTS
from pipeline.score.scores import ScoredTrial, Scores

__all__ = ["accuracy_points", "difference_curves", "part_of", "scores_text"]

Curves = dict[str, list[list[float | None]]]


def part_of(scores: Scores, part: str | None) -> str:
    """Which convolutions are drawn: as asked for, else the bottlenecks of a ResNet-50 (see `difference_plots`), or all.

    Raises:
        UserError: the network has no such part.
    """
    found = {row["part"] for trial in scores.trials for row in trial.convolutions}
    if part is None:
        return "bottlenecks" if "bottleneck" in found else "all"
    if found and not found.intersection(PARTS[part]):
        raise refuse(f"--part {part}", f"{scores.network} has none", "leave it out, or give all")
    return part


def difference_curves(scores: Scores, stage: str, part: str, is_folded: bool) -> tuple[Curves, Curves]:
    """Differences over the convolutions, and what is left of them over the null task: by start a list per seed.

    Of each start the trials with the fewest frozen layers, since what is frozen does not move.
    """
    suffix = "_folded" if is_folded else ""
    curves: tuple[Curves, Curves] = ({}, {})
    for (start, freeze), group in _by_arm(scores, stage, _fewest_frozen(scores, stage)).items():
        name = start if freeze == "0" else f"{start}, freeze {freeze}"
        for place, key in enumerate(("folded" if is_folded else "raw", f"corrected{suffix}")):
            curves[place][name] = [[row[key] for row in _rows(trial, part)] for trial in group]
    return curves


def accuracy_points(scores: Scores, stage: str) -> dict[str, dict[int, list[float]]]:
    """Best AP by start and freeze count, a value per seed; lists and rules are no count and are left out."""
    points: dict[str, dict[int, list[float]]] = {}
    for row in scores.accuracy:
        if row.stage == stage and row.count is not None:
            points.setdefault(row.start, {}).setdefault(row.count, []).append(row.best_ap50)
    return points


def scores_text(scores: Scores, path: Path, part: str | None, is_folded: bool) -> str:
    """A row per stage, start and freeze, over its seeds: how far the convolutions moved, and how good it got.

    path: of scores.json.
    """
    chosen = part_of(scores, part)
    raw, suffix = ("folded", "_folded") if is_folded else ("raw", "")
    head = ["stage", "start", "freeze", "seeds", raw, "largest", "at", "null", "corrected", "best AP %"]
    rows = [head]
    for stage in scores.stages:
        for (start, freeze), group in _by_arm(scores, stage).items():
            found = [row for trial in group for row in _rows(trial, chosen) if row[raw]]
            rows.append(
                [
                    stage,
                    start,
                    freeze,
                    ",".join(str(trial.seed) for trial in group),
                    _median(row[raw] for row in found),
                    *_largest(found, raw),
                    _median(row[f"null_{raw}"] for row in found),
                    _median(row[f"corrected{suffix}"] for row in found),
                    _accuracy(scores, stage, start, freeze),
                ]
            )
    what = {"all": "all convolutions", "trunk": "the trunk", "bottlenecks": "the bottlenecks"}[chosen]
    lines = ruled(rows, left=3) if len(rows) > 1 else ["No finished trial starts from weights."]
    lines.append(f"{raw}, null, corrected: medians over {what} that went on learning, and over the seeds.")
    if scores.unfinished:
        lines.append(
            f"{len(scores.unfinished)} trials are not finished and left out, the first {scores.unfinished[0]}."
        )
    lines.append(f"scores: {path}; plots: {path.parent}/*/difference.png and freezing.png")
    return "\n".join(lines)


def _by_arm(
    scores: Scores, stage: str, only: Mapping[str, str] | None = None
) -> dict[tuple[str, str], list[ScoredTrial]]:
    """Trials of a stage that differ in their seed alone, together. only: a freeze for each start."""
    groups: dict[tuple[str, str], list[ScoredTrial]] = {}
    for trial in scores.trials:
        if trial.stage == stage and (only is None or only[trial.start] == trial.freeze):
            groups.setdefault((trial.start, trial.freeze), []).append(trial)
    return groups


def _fewest_frozen(scores: Scores, stage: str) -> dict[str, str]:
    rows = sorted((row for row in scores.accuracy if row.stage == stage), key=lambda row: len(row.frozen_layers))
    fewest: dict[str, str] = {}
    for row in rows:
        fewest.setdefault(row.start, row.freeze)
    return fewest


def _rows(trial: ScoredTrial, part: str) -> Sequence[Mapping[str, Any]]:
    return [row for row in trial.convolutions if row["part"] in PARTS[part]]


def _median(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return figure_text(statistics.median(known) if known else None)


def _largest(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[str, str]:
    if not rows:
        return "-", ""
    row = max(rows, key=lambda row: float(row[key]))
    return figure_text(row[key]), str(row["name"])


def _accuracy(scores: Scores, stage: str, start: str, freeze: str) -> str:
    values = [
        100 * row.best_ap50 for row in scores.accuracy if (row.stage, row.start, row.freeze) == (stage, start, freeze)
    ]
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ±{statistics.stdev(values):.1f}"
