"""How much of the classes a layer's features tell: neighbours or a logistic regression, fitted on train.

Knows nothing about the network that the features are of.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from pipeline.errors import refuse
from pipeline.score.figures import Figures, figures

__all__ = ["METHODS", "FeatureProbe", "Method", "probe", "require_labels"]

Method = Literal["knn", "logistic"]
METHODS = ("knn", "logistic")

_ITERATIONS = 1000  # of the logistic regression, at most


@dataclass(frozen=True)
class FeatureProbe:
    """What was found.

    Attributes:
        fitted: number of rows of train. left_out: rows of all splits that have no label, or several.
        found: figures of val, and of test where it has labelled rows.
        has_converged: False where the logistic regression would have gone on.
    """

    method: Method
    fitted: int
    left_out: int
    found: dict[str, Figures]
    has_converged: bool

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = {split: one.model_dump(mode="json") for split, one in self.found.items()}
        about = {"method": self.method, "fitted": self.fitted, "left_out": self.left_out}
        return about | {"has_converged": self.has_converged, **found}


def probe(path: Path, method: Method, neighbours: int = 5) -> FeatureProbe:
    """Fit on the rows of train in a file of `write_features`, and judge the other splits.

    Every feature is scaled to mean 0 and deviation 1 on train. neighbours: whose majority decides, for knn.

    Raises:
        UserError: unpooled features, fewer than two classes in train, nothing labelled in val.
    """
    with np.load(path) as content:
        names = tuple(map(str, content["classes"]))
        labels, splits = content["labels"], content["splits"]
        features = content["features"]
    if features.ndim != 2:
        raise refuse(path, f"holds maps, {features.shape}", "write it with --pool mean or max")
    require_labels(labels, splits, path)
    rows = {split: np.flatnonzero((splits == split) & (labels >= 0)) for split in ("train", "val", "test")}
    model = _model(method, min(neighbours, len(rows["train"])))
    model.fit(features[rows["train"]], labels[rows["train"]])
    return FeatureProbe(
        method,
        len(rows["train"]),
        int((labels < 0).sum()),
        {
            split: _judged(model, features[rows[split]], labels[rows[split]], names)
            for split in rows
            if split != "train" and len(rows[split])
        },
        method == "knn" or bool(np.max(model[-1].n_iter_) < _ITERATIONS),
    )


def require_labels(labels: np.ndarray, splits: np.ndarray, where: Path) -> None:
    """Refuse labels (N,), -1 for none, from which nothing can be learned or judged. splits: (N,) text."""
    classes = np.unique(labels[(splits == "train") & (labels >= 0)])
    judged = int(((splits == "val") & (labels >= 0)).sum())
    if len(classes) < 2 or not judged:
        found = f"{len(classes)} classes in train, {judged} rows with one label in val"
        raise refuse(where, found, "give a set with two classes at least; --crops labels every object")


def _model(method: Method, neighbours: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    is_knn = method == "knn"
    last = KNeighborsClassifier(neighbours) if is_knn else LogisticRegression(max_iter=_ITERATIONS)
    return make_pipeline(StandardScaler(), last)


def _judged(model: Any, features: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> Figures:
    predicted = torch.from_numpy(np.asarray(model.predict(features), np.int64))
    return figures(predicted, torch.from_numpy(labels), names)
