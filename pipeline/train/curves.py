"""What learning curves say, in words, with the rule that said it. Knows nothing about how the losses were measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Diagnosis", "diagnose"]

_LEAST_POINTS = 4
_LEAST_TO_PRAISE = 6  # with fewer, that nothing was found wrong says little
_RISE = 0.10  # of the loss on val over its lowest
_FALL = 0.10  # of a loss over the last third of the points
_EASIER = 0.5  # loss on val as part of that on train
_SWING = 0.30  # mean change of the loss on val from one point to the next, where it goes up and down


@dataclass(frozen=True)
class Diagnosis:
    """verdict: a word or two. rule: what was found, and what that usually means."""

    verdict: str
    rule: str

    def __str__(self) -> str:
        return f"{self.verdict}: {self.rule}"


def diagnose(points: Sequence[tuple[int, float, float | None]], unit: str = "iteration") -> Diagnosis:
    """Judge a trial by its losses.

    points: iteration, loss on train (smoothed, augmented pictures), loss on val (pictures as they are) of every
    evaluation, in order. The first is left out: a network that knows nothing yet says nothing about the data.
    unit: what is counted in place of iterations, such as epochs.
    """
    known = [(iteration, train, val) for iteration, train, val in points if val is not None][1:]
    if len(known) < _LEAST_POINTS - 1:
        return Diagnosis(
            "unknown", f"{len(known) + 1} evaluations with a loss on val; at least {_LEAST_POINTS} are needed"
        )
    trains, vals = [train for _, train, _ in known], [val for _, _, val in known]
    swing = sum(abs(b - a) for a, b in pairwise(vals)) / (len(vals) - 1) / (sum(vals) / len(vals))
    turns = sum((b - a) * (c - b) < 0 for (a, b), c in zip(pairwise(vals), vals[2:], strict=False))
    if turns * 2 >= len(vals) - 2 and len(vals) > 3 and swing > _SWING:
        rule = f"loss on val changes by {100 * swing:.0f} % from one evaluation to the next, up and down"
        return Diagnosis("unrepresentative validation", f"{rule}; it holds too few pictures, or others than train")
    if max(val / max(train, 1e-12) for _, train, val in known) < _EASIER:
        rule = f"loss on val is always below {100 * _EASIER:.0f} % of that on train"
        return Diagnosis("unrepresentative validation", f"{rule}; its pictures are easier than those trained on")
    lowest = min(range(len(vals)), key=lambda index: vals[index])
    if vals[-1] > (1 + _RISE) * vals[lowest] and trains[-1] < trains[lowest]:
        rule = f"loss on val is {100 * (vals[-1] / vals[lowest] - 1):.0f} % above its lowest, at {known[lowest][0]}"
        return Diagnosis("overfitting", f"{rule}, while that on train still falls; stop there, or add pictures")
    before = -1 - max(1, len(known) // 3)
    falls = [1 - values[-1] / values[before] for values in (trains, vals)]
    if min(falls) > _FALL:
        rule = f"both losses still fall, val by {100 * falls[1]:.0f} % since {unit} {known[before][0]}"
        return Diagnosis("underfitting", f"{rule}; train longer")
    if len(known) < _LEAST_TO_PRAISE - 1:
        return Diagnosis("unknown", f"nothing speaks against it, but {len(known) + 1} evaluations are few")
    return Diagnosis("good fit", "loss on val has levelled off, and stays near its lowest")
