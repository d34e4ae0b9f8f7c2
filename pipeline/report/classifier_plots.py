"""Pictures of one trained classifier: its confusion matrix, and its losses over the epochs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.report.classified import judged
from pipeline.report.pictures import COLOURS, picture
from pipeline.score.figures import Figures
from pipeline.score.study import Trained
from pipeline.score.trained_classifier import Epoch

__all__ = ["plot_classifier"]


def plot_classifier(trained: Trained) -> None:
    """Draw confusion.png and curves.png into the folder of a training, unless they are newer than its result."""
    root = trained.folder.root
    written = (root / "result.json").stat().st_mtime_ns
    paths = (root / "confusion.png", root / "curves.png")
    if all(path.is_file() and path.stat().st_mtime_ns >= written for path in paths):
        return
    split, found = judged(trained)
    name = trained.settings.name
    _plot_confusion(found, f"{name} on {split}", paths[0])
    _plot_losses(trained.folder.epochs(), f"{name}\n{trained.result.diagnosis}", paths[1])


def _plot_confusion(found: Figures, title: str, path: Path) -> None:
    """Rows are the labels; the colour is the share of the row."""
    counts = np.array(found.confusion)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    names = [entry.name for entry in found.per_class]
    side = 2.5 + 0.7 * len(names)
    with picture(path, (side, side)) as [[axes]]:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="predicted", ylabel="labelled", title=title)
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(
                column, row, f"{count}\n{100 * shares[row, column]:.0f} %", ha="center", va="center", color=colour
            )


def _plot_losses(epochs: Sequence[Epoch], title: str, path: Path) -> None:
    from matplotlib.ticker import MaxNLocator

    numbers = [epoch.epoch for epoch in epochs]
    with picture(path, (8, 5)) as [[axes]]:
        axes.plot(numbers, [epoch.train_loss for epoch in epochs], color=COLOURS[0], marker=".", label="train")
        axes.plot(
            numbers, [epoch.val_loss for epoch in epochs], color=COLOURS[1], marker=".", linestyle="--", label="val"
        )
        axes.set(xlabel="epoch", ylabel="cross entropy, mean per crop", ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(title, fontsize=9, wrap=True)
        axes.grid(alpha=0.3)
        axes.legend()
