"""Which start and freeze count gets how far, how fast: the figures of one stage from its trials' records."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.report.columns import ruled
from pipeline.train.stages import PlannedTrial
from pipeline.train.trial import Evaluation, TrialResult, TrialSettings

__all__ = [
    "SHARE",
    "Arm",
    "arms_of_stage",
    "arms_of_trials",
    "by_arm",
    "curves_text",
    "goal",
    "reached",
    "spread",
    "table_text",
]

# The share of the stage's best AP that counts as having got there.
SHARE = 0.9


@dataclass(frozen=True)
class Arm:
    """One trial of a stage: how far it got, and what it took to reach 90 % of the best AP of the whole stage.

    Attributes:
        reached: the first evaluation at that AP, or None if it never got there.
        diagnosis: what its learning curves say.
        is_forced: it froze layers that were never trained.
    """

    start: str
    freeze: str
    seed: int
    evaluations: tuple[Evaluation, ...]
    best: Evaluation
    reached: Evaluation | None
    images_per_second: float
    diagnosis: str
    is_forced: bool


def arms_of_stage(plan: Sequence[PlannedTrial], stage: str) -> list[Arm]:
    """Every finished trial of `stage`, in the order of the plan."""
    found = []
    for trial in plan:
        if trial.stage.name == stage:
            settings, result = trial.folder.read()
            evaluations = trial.folder.evaluations()
            if result is not None and evaluations:
                found.append((settings, result, evaluations))
    return arms_of_trials(found)


def arms_of_trials(found: Sequence[tuple[TrialSettings, TrialResult, tuple[Evaluation, ...]]]) -> list[Arm]:
    """The finished trials of one stage, in their order; each has at least one evaluation."""
    best_of_all = max((e.ap50 for _, _, evaluations in found for e in evaluations), default=0.0)
    return [
        Arm(
            settings.start,
            settings.freeze,
            settings.seed,
            evaluations,
            max(evaluations, key=lambda e: e.ap50),
            reached(evaluations, SHARE * best_of_all),
            result.images_per_second,
            result.diagnosis,
            any(index not in result.trained_layers for index in result.frozen_layers),
        )
        for settings, result, evaluations in found
    ]


def reached(evaluations: Sequence[Evaluation], ap50: float) -> Evaluation | None:
    """The first evaluation with at least `ap50`; None if there is none, or if `ap50` is 0."""
    return next((e for e in evaluations if e.ap50 >= ap50 > 0), None)


def table_text(arms: Sequence[Arm], title: str) -> str:
    """A table for the terminal: AP at every evaluation, the best, and what it took to get 90 % of the stage's best.

    Trials that differ in their seed alone share a row: the mean, and after ± the standard deviation.
    """
    rows_of = by_arm(arms)
    seeds = max((len(group) for group in rows_of.values()), default=1)
    points = sorted({e.iteration for arm in arms for e in arm.evaluations})
    head = [
        "start",
        "freeze",
        "seeds",
        *[f"@{point}" for point in points],
        "best",
        "its to 90%",
        "s to 90%",
        "images/s",
    ]
    rows = [head, *(_row(key, group, points) for key, group in rows_of.items())]
    lines = ruled(rows, left=0)
    best = max((arm.best.ap50 for arm in arms), default=0.0)
    notes = [f"AP at IoU 0.5 on val, %. 90 % of the best AP of the stage is {90 * best:.1f} %; - never got there."]
    if seeds > 1:
        notes.append("Mean and ± standard deviation over the seeds; n/m: so many of them got there, and their mean.")
    if any(arm.is_forced for arm in arms):
        notes.append("* froze layers that were never trained, as the experiment demands (freeze_untrained).")
    return "\n".join([title, *lines, *notes])


def curves_text(arms: Sequence[Arm]) -> str:
    """What the learning curves of each start and freeze count say, a line each; of several seeds the commonest."""
    lines = []
    for (start, freeze), group in by_arm(arms).items():
        verdicts = [arm.diagnosis.partition(":")[0] for arm in group]
        commonest = statistics.mode(verdicts)
        rule = group[verdicts.index(commonest)].diagnosis
        share = f" ({verdicts.count(commonest)} of {len(group)} seeds)" if len(group) > 1 else ""
        lines.append(f"learning curves of {start}, freeze {freeze}{share}: {rule}")
    return "\n".join(lines)


def by_arm(arms: Sequence[Arm]) -> dict[tuple[str, str], list[Arm]]:
    """Trials that differ in their seed alone, together."""
    groups: dict[tuple[str, str], list[Arm]] = {}
    for arm in arms:
        groups.setdefault((arm.start, arm.freeze), []).append(arm)
    return groups


def _row(key: tuple[str, str], group: Sequence[Arm], points: Sequence[int]) -> list[str]:
    start, freeze = key
    goals = [arm.reached for arm in group if arm.reached]
    return [
        start,
        freeze + ("*" if any(arm.is_forced for arm in group) else ""),
        ",".join(str(arm.seed) for arm in group),
        *[spread([100 * e.ap50 for arm in group for e in arm.evaluations if e.iteration == point]) for point in points],
        spread([100 * arm.best.ap50 for arm in group]),
        goal([one.iteration for one in goals], len(group), "{:.0f}".format),
        goal([one.seconds for one in goals], len(group), "{:.1f}".format),
        f"{statistics.mean(arm.images_per_second for arm in group):.0f}",
    ]


def spread(values: Sequence[float]) -> str:
    """The mean and, of several values, ± their standard deviation; nothing of none."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ±{statistics.stdev(values):.1f}"


def goal(values: Sequence[float], count: int, text: Callable[[float], str]) -> str:
    """What it took those that got there on average; n/m where not all of `count` did, - where none did."""
    if not values:
        return "-"
    share = "" if len(values) == count else f"{len(values)}/{count}: "
    return share + text(statistics.mean(values))
