"""How good a classifier is: what torchmetrics says of its predictions, per class and as means over the classes.

Knows nothing about networks.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict
from torch import Tensor

__all__ = ["ClassFigures", "Figures", "figures"]


class ClassFigures(BaseModel):
    """Of one class. crops: of it in the split; the others from 0 to 1, None where the split has no crop of it.

    accuracy: the share of its crops that were recognised, which is its recall.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    crops: int
    accuracy: float | None
    precision: float | None
    f1: float | None


class Figures(BaseModel):
    """Of one network on one split. Means are over the classes that have crops, each counting the same.

    Attributes:
        accuracy: the share of all crops that were recognised.
        confusion: rows are the labels, columns what was predicted; numbers of crops.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    accuracy: float
    mean_class_accuracy: float
    mean_precision: float
    mean_recall: float
    mean_f1: float
    per_class: tuple[ClassFigures, ...]
    confusion: tuple[tuple[int, ...], ...]

    def as_means(self) -> dict[str, float]:
        """The means alone, by name."""
        means: dict[str, Any] = self.model_dump(exclude={"per_class", "confusion"})
        return means


def figures(predicted: Tensor, labels: Tensor, classes: Sequence[str]) -> Figures:
    """Compare predictions with labels, both (N,) int64 with N > 0.

    A class that was never predicted has the precision 0.
    """
    from torchmetrics.functional import classification

    # torchmetrics takes two classes at least
    count = max(2, len(classes))
    options: dict[str, Any] = {"num_classes": count, "average": None, "zero_division": 0}
    confusion = classification.multiclass_confusion_matrix(predicted, labels, num_classes=count)[: len(classes)]
    recall = classification.multiclass_recall(predicted, labels, **options)
    precision = classification.multiclass_precision(predicted, labels, **options)
    f1 = classification.multiclass_f1_score(predicted, labels, **options)
    accuracy = classification.multiclass_accuracy(predicted, labels, num_classes=count, average=None)
    counts = confusion.sum(dim=1)
    known = (counts > 0).nonzero()[:, 0]

    def mean(values: Tensor) -> float:
        return float(values[known].double().mean())

    return Figures(
        accuracy=float((predicted == labels).double().mean()),
        mean_class_accuracy=mean(accuracy),
        mean_precision=mean(precision),
        mean_recall=mean(recall),
        mean_f1=mean(f1),
        per_class=tuple(
            ClassFigures(
                name=name,
                crops=int(counts[index]),
                accuracy=float(accuracy[index]) if counts[index] else None,
                precision=float(precision[index]) if counts[index] else None,
                f1=float(f1[index]) if counts[index] else None,
            )
            for index, name in enumerate(classes)
        ),
        confusion=tuple(tuple(int(value) for value in row[: len(classes)]) for row in confusion),
    )
