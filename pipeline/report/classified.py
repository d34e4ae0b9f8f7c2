"""What the classifier study found, in tables for a terminal: means per network and technique, classes, confusion."""

import statistics
from collections.abc import Sequence

from pipeline.report.columns import ruled
from pipeline.score.figures import Figures
from pipeline.score.study import Trained

__all__ = ["judged", "study_text"]


def judged(trained: Trained) -> tuple[str, Figures]:
    """The split that says how good it is, and its figures: test, on which nothing was chosen, or val without one."""
    result = trained.result
    return ("val", result.val) if result.test is None else ("test", result.test)


def study_text(study: Sequence[Trained]) -> str:
    """All tables; trainings that differ in their seed alone share a row, mean and ± standard deviation."""
    groups = _by_technique(study)
    head = ["network", "technique", "seeds", "accuracy", "F1", "precision", "recall", "all crops", "best epoch", "s"]
    rows = [head, *(_row(key, group) for key, group in groups.items())]
    classes = [entry.name for entry in judged(study[0])[1].per_class]
    per_class = [["network", "technique", *classes]]
    per_class += [[*key, *_class_cells(group)] for key, group in groups.items()]
    best = max(study, key=lambda one: judged(one)[1].mean_f1)
    split, found = judged(best)
    first = study[0]
    small = sum(first.result.too_small.values())
    crops = ", ".join(f"{split} {count}" for split, count in first.result.crops.items() if count)
    return "\n".join(
        [
            f"{first.settings.data}: crops of {first.settings.size} x {first.settings.size} pixels: {crops}; "
            f"{small} objects below {first.settings.smallest:g} pixels left out",
            "",
            *ruled(rows, left=3),
            f"In %, on {split}, at the epoch with the best mean F1 on val; means over the classes with crops there.",
            "",
            "accuracy per class, %",
            *ruled(per_class, left=2),
            "",
            f"confusion of {best.settings.name} on {split}: rows are the labels, columns the predictions",
            *ruled(_confusion_rows(found)),
            "",
            *(_curve_line(key, group) for key, group in groups.items()),
            f"plots and weights: {first.folder.root.parent}/*",
        ]
    )


def _by_technique(study: Sequence[Trained]) -> dict[tuple[str, str], list[Trained]]:
    groups: dict[tuple[str, str], list[Trained]] = {}
    for one in study:
        groups.setdefault((one.settings.network, one.settings.technique), []).append(one)
    return groups


def _row(key: tuple[str, str], group: Sequence[Trained]) -> list[str]:
    found = [judged(one)[1] for one in group]
    columns = ("mean_class_accuracy", "mean_f1", "mean_precision", "mean_recall", "accuracy")
    return [
        *key,
        ",".join(str(one.settings.seed) for one in group),
        *(_spread([getattr(figures, column) for figures in found]) for column in columns),
        ",".join(str(one.result.best_epoch) for one in group),
        f"{statistics.mean(one.result.seconds for one in group):.1f}",
    ]


def _class_cells(group: Sequence[Trained]) -> list[str]:
    columns = zip(*(judged(one)[1].per_class for one in group), strict=True)
    return [_spread([entry.accuracy for entry in column if entry.accuracy is not None]) for column in columns]


def _confusion_rows(found: Figures) -> list[list[str]]:
    names = [entry.name for entry in found.per_class]
    rows = zip(names, found.confusion, strict=True)
    return [["", *names], *([name, *map(str, counts)] for name, counts in rows)]


def _curve_line(key: tuple[str, str], group: Sequence[Trained]) -> str:
    verdicts = [one.result.diagnosis.partition(":")[0] for one in group]
    commonest = statistics.mode(verdicts)
    share = f" ({verdicts.count(commonest)} of {len(group)} seeds)" if len(group) > 1 else ""
    return f"learning curves of {' '.join(key)}{share}: {group[verdicts.index(commonest)].result.diagnosis}"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean = f"{100 * statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ±{100 * statistics.stdev(values):.1f}"
