"""Which start and freeze count gets how far, how fast: the figures of one stage from its trials' records."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.train.freeze import freeze_label
from pipeline.train.stages import PlannedTrial
from pipeline.train.trial import Evaluation

__all__ = ["Arm", "arms_of_stage", "reached", "table_text"]

# The share of the stage's best AP that counts as having got there.
SHARE = 0.9


@dataclass(frozen=True)
class Arm:
    """One trial of a stage: how far it got, and what it took to reach 90 % of the best AP of the whole stage.

    Attributes:
        reached: the first evaluation at that AP, or None if it never got there.
        is_forced: it froze layers that were never trained.
    """

    start: str
    freeze: str
    seed: int
    evaluations: tuple[Evaluation, ...]
    best: Evaluation
    reached: Evaluation | None
    images_per_second: float
    is_forced: bool


def arms_of_stage(plan: Sequence[PlannedTrial], stage: str) -> list[Arm]:
    """Every finished trial of `stage`, in the order of the plan."""
    found = []
    for trial in plan:
        if trial.stage.name == stage:
            _, result = trial.folder.read()
            evaluations = trial.folder.evaluations()
            if result is not None and evaluations:
                found.append((trial, result, evaluations))
    best_of_all = max((e.ap50 for _, _, evaluations in found for e in evaluations), default=0.0)
    return [
        Arm(
            trial.start.name,
            freeze_label(trial.freeze),
            trial.seed,
            evaluations,
            max(evaluations, key=lambda e: e.ap50),
            reached(evaluations, SHARE * best_of_all),
            result.images_per_second,
            any(index not in result.trained_layers for index in result.frozen_layers),
        )
        for trial, result, evaluations in found
    ]


def reached(evaluations: Sequence[Evaluation], ap50: float) -> Evaluation | None:
    """The first evaluation with at least `ap50`; None if there is none, or if `ap50` is 0."""
    return next((e for e in evaluations if e.ap50 >= ap50 > 0), None)


def table_text(arms: Sequence[Arm], title: str) -> str:
    """A table for the terminal: AP at every evaluation, the best, and what it took to get 90 % of the stage's best."""
    points = sorted({e.iteration for arm in arms for e in arm.evaluations})
    head = ["start", "freeze", "seed", *[f"@{point}" for point in points], "best", "its to 90%", "s to 90%", "images/s"]
    rows = [head]
    for arm in arms:
        by_point = {e.iteration: f"{100 * e.ap50:.1f}" for e in arm.evaluations}
        goal = arm.reached
        rows.append(
            [
                arm.start,
                f"{arm.freeze}{'*' if arm.is_forced else ''}",
                str(arm.seed),
                *[by_point.get(point, "") for point in points],
                f"{100 * arm.best.ap50:.1f}",
                str(goal.iteration) if goal else "-",
                f"{goal.seconds:.1f}" if goal else "-",
                f"{arm.images_per_second:.0f}",
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "-" * len(lines[0]))
    best = max((arm.best.ap50 for arm in arms), default=0.0)
    notes = [f"AP at IoU 0.5 on val, %. 90 % of the best AP of the stage is {90 * best:.1f} %; - never got there."]
    if any(arm.is_forced for arm in arms):
        notes.append("* froze layers that were never trained, as the experiment demands (freeze_untrained).")
    return "\n".join([title, *lines, *notes])
