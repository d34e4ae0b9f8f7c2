"""Layer difference over the layers, and AP over the number of frozen layers.

As the two figures of Suzuki, Kuyoshi and Yamane, "Transfer Learning Algorithm for Object Detection", draw them. A
line per start: the mean over the seeds, and their band from least to most.
"""

import statistics
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from pipeline.report.pictures import COLOURS, picture

__all__ = ["Curves", "plot_accuracy", "plot_differences"]

# By start: for each seed a list over the layers; None where a layer has no figure.
Curves = Mapping[str, Sequence[Sequence[float | None]]]


def plot_differences(raw: Curves, corrected: Curves, figure_name: str, title: str, path: Path) -> None:
    """Draw the difference over the convolutions' index, for every start; below it, what is left over the null task.

    figure_name: raw or folded. A convolution without a figure is a gap.
    """
    panels = [(raw, f"layer difference, {figure_name}")]
    if any(value is not None for curves in corrected.values() for curve in curves for value in curve):
        panels.append((corrected, "times that of the null task"))
    with picture(path, (8, 1 + 4 * len(panels)), rows=len(panels)) as grid:
        all_axes = list(grid[:, 0])
        for axes, (curves, label) in zip(all_axes, panels, strict=True):
            for colour, (start, of_seeds) in zip(cycle(COLOURS), curves.items(), strict=False):
                points = range(max(map(len, of_seeds)))
                columns = [[curve[i] for curve in of_seeds if i < len(curve)] for i in points]
                _line(axes, list(points), [[v for v in c if v is not None] for c in columns], colour, start)
            axes.set(ylabel=label, ylim=(0, None))
            axes.grid(alpha=0.3)
            axes.legend()
        all_axes[0].set_title(title)
        all_axes[-1].set_xlabel("convolution, in the order of the data")


def plot_accuracy(points: Mapping[str, Mapping[int, Sequence[float]]], title: str, path: Path) -> None:
    """Draw the best AP over the number of frozen layers, for every start: of each freeze count a value per seed."""
    with picture(path, (8, 5)) as [[axes]]:
        for colour, (start, by_count) in zip(cycle(COLOURS), points.items(), strict=False):
            counts = sorted(by_count)
            _line(axes, counts, [[100 * value for value in by_count[count]] for count in counts], colour, start)
        axes.set(xlabel="frozen layers", ylabel="best AP at IoU 0.5 on val, %", title=title, ylim=(0, None))
        axes.set_xticks(sorted({count for by_count in points.values() for count in by_count}))
        axes.grid(alpha=0.3)
        axes.legend()


def _line(axes: Any, points: list[int], columns: list[list[float]], colour: str, name: str) -> None:
    nothing = float("nan")
    seeds = max(map(len, columns), default=0)
    label = f"{name}, mean of {seeds} seeds" if seeds > 1 else name
    axes.plot(points, [statistics.mean(c) if c else nothing for c in columns], color=colour, marker=".", label=label)
    if seeds > 1:
        low, high = ([end(c) if c else nothing for c in columns] for end in (min, max))
        axes.fill_between(points, low, high, color=colour, alpha=0.15)
