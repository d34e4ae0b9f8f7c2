"""The answer of an experiment: which start, how many frozen layers, how much faster than from scratch, how sure."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.report.blocks import Block, Facts, Section, Table, Text
from pipeline.report.evidence import Evidence, FoundStage
from pipeline.report.table import SHARE, Arm, goal, reached, spread
from pipeline.train.trial import Evaluation

__all__ = ["Effort", "answer_section", "effort_to"]

_ERRORS = 2  # standard errors that a lead must have before it is called one


@dataclass(frozen=True)
class Effort:
    """What some trainings took to get to an AP, each a mean over the `count` of `seeds` that got there."""

    iterations: float
    seconds: float
    dose: float
    count: int
    seeds: int

    @property
    def is_of_all(self) -> bool:
        """Whether every seed got there."""
        return self.count == self.seeds


def effort_to(arms: Sequence[Arm], ap50: float) -> Effort | None:
    """What the seeds of a start and freeze took to reach `ap50`, 0 to 1; None where none did."""
    found = [first for first in (reached(arm.evaluations, ap50) for arm in arms) if first is not None]
    if not found:
        return None

    def mean(figure: Callable[[Evaluation], float]) -> float:
        return statistics.mean(figure(one) for one in found)

    return Effort(
        mean(lambda one: one.iteration),
        mean(lambda one: one.seconds),
        mean(lambda one: one.dose),
        len(found),
        len(arms),
    )


def answer_section(evidence: Evidence) -> Section:
    """Of the stage that the experiment is about."""
    stage = evidence.target
    start, freeze = stage.best
    arms = stage.groups[stage.best]
    best = [100 * arm.best.ap50 for arm in arms]
    facts = [
        ("Start", start, _origin(stage, start)),
        ("Frozen layers", freeze, "layers 0 to N-1, counted as in Darknet's cfg" if freeze.isdecimal() else ""),
        ("AP at IoU 0.5", f"{spread(best)}\u00a0%", _seeds(arms)),
        *_speed(stage, arms),
    ]
    texts = [_settled(stage), _against_scratch(stage), _advice(evidence), _caveat(evidence)]
    blocks: list[Block] = [Facts(tuple(facts)), *(Text(text) for text in texts if text), _table(stage)]
    missing = []
    if evidence.unfinished:
        names = ", ".join(evidence.unfinished[:4]) + (" ..." if len(evidence.unfinished) > 4 else "")
        missing.append(f"Not finished and left out: {names}. {evidence.command('train')} goes on with them.")
    return Section("answer", f"The answer: start from {start}, freeze {freeze}", tuple(blocks), tuple(missing))


def _origin(stage: FoundStage, start: str) -> str:
    origin = next(one for one in stage.stage.starts if one.name == start)
    if origin.stage is not None:
        return f"the best weights of stage {origin.stage}"
    if origin.known is not None:
        return f"published weights {origin.known}"
    return "random weights" if origin.weights is None else f"the file {origin.weights.name}"


def _seeds(arms: Sequence[Arm]) -> str:
    if len(arms) == 1:
        return "on val, one seed: nobody knows the spread"
    values = [100 * arm.best.ap50 for arm in arms]
    return f"on val, mean ± standard deviation of {len(arms)} seeds, {min(values):.1f} to {max(values):.1f}\u00a0%"


def _goal_of(stage: FoundStage) -> float:
    return SHARE * max(arm.best.ap50 for arm in stage.arms)


def _speed(stage: FoundStage, arms: Sequence[Arm]) -> list[tuple[str, str, str]]:
    """What it took to 90 % of the best AP of the stage."""
    effort = effort_to(arms, _goal_of(stage))
    if effort is None:
        return []
    share = "" if effort.is_of_all else f", {effort.count} of {effort.seeds} seeds"
    about = f"to {100 * _goal_of(stage):.1f} % AP, nine tenths of the best of the stage{share}"
    return [
        ("Iterations", f"{effort.iterations:.0f}", about),
        ("Training time", f"{effort.seconds:.1f}\u00a0s", "to the same AP, on the machine named under provenance"),
        ("Learning-rate dose", f"{effort.dose:.3g}", "sum of the learning rates up to there; compare starts by it"),
    ]


def _settled(stage: FoundStage) -> str:
    """Whether the runner-up is worse by more than the seeds differ."""
    groups = {key: [100 * arm.best.ap50 for arm in arms] for key, arms in stage.groups.items()}
    if len(groups) < 2:
        return "There is only one start and freeze count in this stage: nothing to compare it with."
    best, second, *_ = sorted(groups, key=lambda key: -statistics.mean(groups[key]))
    name, gap = f"{second[0]}, freeze {second[1]}", statistics.mean(groups[best]) - statistics.mean(groups[second])
    told = f"The runner-up is {name}, {gap:.1f} points behind"
    if min(len(groups[best]), len(groups[second])) < 2:
        return f"{told}. With one seed that may be chance: name more seeds in the experiment."
    error = sum(statistics.variance(groups[key]) / len(groups[key]) for key in (best, second)) ** 0.5
    doubt = f"with {len(groups[best])} and {len(groups[second])} seeds the standard error of that is {error:.1f} points"
    if gap < _ERRORS * error:
        return f"{told}; {doubt}: the order of the two is not settled."
    return f"{told}; {doubt}."


def _against_scratch(stage: FoundStage) -> str:
    scratch = stage.scratch
    if scratch is None:
        return "No training from scratch in this stage: add the start scratch to see what the others save."
    if scratch == stage.best:
        return "Training from scratch itself is the best here: no start was worth its while."
    level = statistics.mean(arm.best.ap50 for arm in stage.groups[scratch])
    ours, theirs = effort_to(stage.groups[stage.best], level), _effort_of_best(stage.groups[scratch])
    told = f"From scratch the best AP is {spread([100 * arm.best.ap50 for arm in stage.groups[scratch]])} %"
    if ours is None:
        return f"{told}."
    saved = 100 * (1 - ours.iterations / theirs.iterations)
    less = f", {saved:.0f} % fewer iterations" if saved > 0 else ""
    return (
        f"{told}, after {theirs.iterations:.0f} iterations, {theirs.seconds:.1f} s and a dose of {theirs.dose:.3g}. "
        f"The chosen start is at least as good after {ours.iterations:.0f} iterations, {ours.seconds:.1f} s and "
        f"a dose of {ours.dose:.3g}{less}. Measured at the evaluations, so no finer than they lie apart."
    )


def _effort_of_best(arms: Sequence[Arm]) -> Effort:
    best = [arm.best for arm in arms]
    figures = [statistics.mean(getattr(one, key) for one in best) for key in ("iteration", "seconds", "dose")]
    return Effort(figures[0], figures[1], figures[2], len(best), len(best))


def _advice(evidence: Evidence) -> str:
    advice = evidence.advice.get(evidence.target.stage.name)
    if not advice:
        return ""
    first = advice["arms"][0]["arm"]
    start, freeze = evidence.target.best
    verdict = "the same" if first == f"{start}-f{freeze}" else "another choice than the sweep's"
    part = 100 * advice["cost"] / advice["sweep_cost"]
    return f"`skylight advise` said {first} beforehand, {verdict}, for {part:.0f} % of the sweep's cost of one seed."


def _caveat(evidence: Evidence) -> str:
    about = next((about for _, about in _sets_of(evidence) if about), None)
    boxes = f" with its {about['splits']['val']['boxes']} boxes" if about else ""
    return (
        f"AP is measured on val{boxes}, and the best evaluation was chosen there too: on new pictures expect less. "
        "`skylight evaluate TRIAL --split test` measures on pictures on which nothing was chosen."
    )


def _sets_of(evidence: Evidence) -> list[tuple[object, dict[str, dict[str, dict[str, int]]] | None]]:
    key = evidence.target.stage.data
    return [evidence.sets[key]] if key in evidence.sets else []


def _table(stage: FoundStage) -> Table:
    """A row per start and freeze: best AP, and what it took to the common goal."""
    rows = []
    for (start, freeze), arms in stage.groups.items():
        goals = [arm.reached for arm in arms if arm.reached]
        columns = (
            ([one.iteration for one in goals], "{:.0f}".format),
            ([one.seconds for one in goals], "{:.1f}".format),
            ([one.dose for one in goals], "{:.3g}".format),
        )
        cells = [goal(values, len(arms), text) for values, text in columns]
        rows.append((start, _forced(freeze, arms), str(len(arms)), spread([100 * a.best.ap50 for a in arms]), *cells))
    head = ("start", "frozen", "seeds", "best AP %", "iterations", "seconds", "dose")
    caption = (
        f"Stage {stage.stage.name}: best AP on val, and what it took to {100 * _goal_of(stage):.1f} %. "
        "- never got there; n/m: so many seeds did, and their mean"
    )
    if any(arm.is_forced for arm in stage.arms):
        caption += "; * froze layers that were never trained"
    return Table(caption, head, tuple(rows), left=2, bold=list(stage.groups).index(stage.best))


def _forced(freeze: str, arms: Sequence[Arm]) -> str:
    return freeze + ("*" if any(arm.is_forced for arm in arms) else "")
