"""AP over iterations for every start and freeze count, as a picture: the mean over the seeds, and their band."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from pipeline.files import new_file
from pipeline.report.table import Arm, by_arm

__all__ = ["plot_ap"]

# Okabe and Ito's colours, which colour-blind people can tell apart, one per start; the dashes tell the freeze counts.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES = ("-", "--", ":", "-.")


def plot_ap(arms: Sequence[Arm], title: str, path: Path) -> None:
    """Draw AP at IoU 0.5 on val over iterations into `path` (.png or .svg)."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    starts = list(dict.fromkeys(arm.start for arm in arms))
    freezes = list(dict.fromkeys(arm.freeze for arm in arms))
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for (start, freeze), group in by_arm(arms).items():
        points = sorted({e.iteration for arm in group for e in arm.evaluations})
        values = [[100 * e.ap50 for arm in group for e in arm.evaluations if e.iteration == p] for p in points]
        colour = _COLOURS[starts.index(start) % len(_COLOURS)]
        axes.plot(
            points,
            [statistics.mean(column) for column in values],
            color=colour,
            linestyle=_DASHES[freezes.index(freeze) % len(_DASHES)],
            marker=".",
            label=f"{start}, freeze {freeze}" + (f", mean of {len(group)} seeds" if len(group) > 1 else ""),
        )
        if len(group) > 1:
            axes.fill_between(points, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.15)
    axes.set(xlabel="iterations", ylabel="AP at IoU 0.5 on val, %", title=title, ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend()
    with new_file(path) as part:
        figure.savefig(part, dpi=120)
    plt.close(figure)
