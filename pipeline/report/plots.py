"""AP over iterations for every start and freeze count, as a picture."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.files import new_file
from pipeline.report.table import Arm

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
    for arm in arms:
        axes.plot(
            [e.iteration for e in arm.evaluations],
            [100 * e.ap50 for e in arm.evaluations],
            color=_COLOURS[starts.index(arm.start) % len(_COLOURS)],
            linestyle=_DASHES[freezes.index(arm.freeze) % len(_DASHES)],
            marker=".",
            label=f"{arm.start}, freeze {arm.freeze}" + (f", seed {arm.seed}" if arm.seed else ""),
        )
    axes.set(xlabel="iterations", ylabel="AP at IoU 0.5 on val, %", title=title, ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend()
    with new_file(path) as part:
        figure.savefig(part, dpi=120)
    plt.close(figure)
