"""Layer difference over the layers, and AP over the number of frozen layers, as P2's two figures draw them.

A line per start: the mean over the seeds, and their band from least to most.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import refuse
from pipeline.files import new_file

__all__ = ["plot_accuracy", "plot_differences", "require_plottable"]

# Okabe and Ito's colours, which colour-blind people can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_SUFFIXES = (".png", ".svg", ".pdf")

# By start: for each seed a list over the layers; None where a layer has no figure.
Curves = Mapping[str, Sequence[Sequence[float | None]]]


def require_plottable(path: Path) -> None:
    """Refuse a file that no picture can be written to."""
    if path.suffix.lower() not in _SUFFIXES:
        raise refuse(f"--plot {path}", f"no picture ends in {path.suffix or 'nothing'}", f"give {', '.join(_SUFFIXES)}")


def plot_differences(raw: Curves, corrected: Curves, figure_name: str, title: str, path: Path) -> None:
    """Draw the difference over the convolutions' index, for every start; below it, what is left over the null task.

    figure_name: raw or folded. A convolution without a figure is a gap.
    """
    panels = [(raw, f"layer difference, {figure_name}")]
    if any(value is not None for curves in corrected.values() for curve in curves for value in curve):
        panels.append((corrected, "times that of the null task"))
    with _figure(path, len(panels)) as all_axes:
        for axes, (curves, label) in zip(all_axes, panels, strict=True):
            for colour, (start, of_seeds) in zip(_colours(), curves.items(), strict=False):
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
    with _figure(path, 1) as (axes,):
        for colour, (start, by_count) in zip(_colours(), points.items(), strict=False):
            counts = sorted(by_count)
            _line(axes, counts, [[100 * value for value in by_count[count]] for count in counts], colour, start)
        axes.set(xlabel="frozen layers", ylabel="best AP at IoU 0.5 on val, %", title=title, ylim=(0, None))
        axes.set_xticks(sorted({count for by_count in points.values() for count in by_count}))
        axes.grid(alpha=0.3)
        axes.legend()


def _colours() -> Iterator[str]:
    while True:
        yield from _COLOURS


def _line(axes: Any, points: list[int], columns: list[list[float]], colour: str, name: str) -> None:
    nothing = float("nan")
    seeds = max(map(len, columns), default=0)
    label = f"{name}, mean of {seeds} seeds" if seeds > 1 else name
    axes.plot(points, [statistics.mean(c) if c else nothing for c in columns], color=colour, marker=".", label=label)
    if seeds > 1:
        low, high = ([end(c) if c else nothing for c in columns] for end in (min, max))
        axes.fill_between(points, low, high, color=colour, alpha=0.15)


@contextmanager
def _figure(path: Path, rows: int) -> Iterator[Sequence[Any]]:
    """Axes under each other; the picture is written when the block is left."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(rows, figsize=(8, 1 + 4 * rows), layout="constrained", squeeze=False, sharex=True)
    try:
        yield list(axes[:, 0])
        with new_file(path) as part:
            figure.savefig(part, dpi=120)
    finally:
        plt.close(figure)
