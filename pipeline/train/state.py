"""What changes while a trial is trained, besides weights and momentum, and what follows from it.

Knows nothing about networks.
"""

from dataclasses import dataclass, field
from typing import Any

from pipeline.experiment import StopEarly

__all__ = ["State"]

_SMOOTHING = 0.9  # of the loss: the share of what it was


@dataclass
class State:
    """Where a trial stands; it goes into state.pt as it is.

    Attributes:
        seconds: of training. dose: sum of the learning rates.
        loss: smoothed, per image. parts: of the newest batch, by name.
        metrics_bytes: length of metrics.jsonl; what is behind it was logged later and counts for nothing.
        best: the figure that decides, of the best evaluation. best_sha256: of its weights file.
        evaluations: `Evaluation` of each, in order.
    """

    iteration: int = 0
    seconds: float = 0.0
    dose: float = 0.0
    loss: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    metrics_bytes: int = 0
    best_iteration: int = 0
    best: float = -1.0
    best_sha256: str = ""
    best_ap50: float = 0.0
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    is_stopped_early: bool = False

    def take_loss(self, iteration: int, parts: dict[str, float]) -> None:
        """Take in the loss of an iteration, counted from 0."""
        smoothing = _SMOOTHING if iteration else 0.0
        self.loss = smoothing * self.loss + (1 - smoothing) * sum(parts.values())
        self.parts = parts

    def has_levelled_off(self, rule: StopEarly, figure: str) -> bool:
        """Whether the newest evaluations brought `figure` no further, as `rule` says."""
        best, since = -1.0, 0
        for row in self.evaluations:
            is_better = row[figure] > best + rule.min_delta
            best, since = (row[figure], 0) if is_better else (best, since + 1)
        return since >= rule.patience

    def images_per_second(self, batch: int) -> float:
        """Of training, so far."""
        return self.iteration * batch / max(self.seconds, 1e-9)
