"""AP over iterations for every start and freeze count, as a picture: the mean over the seeds, and their band."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from pipeline.report.pictures import COLOURS, DASHES, picture
from pipeline.report.table import Arm, by_arm

__all__ = ["plot_ap"]


def plot_ap(arms: Sequence[Arm], title: str, path: Path) -> None:
    """Draw AP at IoU 0.5 on val over iterations: a colour per start, dashes per freeze count."""
    starts = list(dict.fromkeys(arm.start for arm in arms))
    freezes = list(dict.fromkeys(arm.freeze for arm in arms))
    with picture(path, (8, 5)) as [[axes]]:
        for (start, freeze), group in by_arm(arms).items():
            points = sorted({e.iteration for arm in group for e in arm.evaluations})
            values = [[100 * e.ap50 for arm in group for e in arm.evaluations if e.iteration == p] for p in points]
            colour = COLOURS[starts.index(start) % len(COLOURS)]
            axes.plot(
                points,
                [statistics.mean(column) for column in values],
                color=colour,
                linestyle=DASHES[freezes.index(freeze) % len(DASHES)],
                marker=".",
                label=f"{start}, freeze {freeze}" + (f", mean of {len(group)} seeds" if len(group) > 1 else ""),
            )
            if len(group) > 1:
                axes.fill_between(points, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.15)
        axes.set(xlabel="iterations", ylabel="AP at IoU 0.5 on val, %", title=title, ylim=(0, 100))
        axes.grid(alpha=0.3)
        axes.legend()
