"""What all plots share: colours that colour-blind people can tell apart, and a picture that appears complete."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import refuse
from pipeline.files import new_file

__all__ = ["COLOURS", "DASHES", "picture", "require_plottable"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # of Okabe and Ito
DASHES = ("-", "--", ":", "-.")
_SUFFIXES = (".png", ".svg", ".pdf")


def require_plottable(path: Path) -> None:
    """Refuse a file that no picture can be written to."""
    if path.suffix.lower() not in _SUFFIXES:
        raise refuse(f"--plot {path}", f"no picture ends in {path.suffix or 'nothing'}", f"give {', '.join(_SUFFIXES)}")


@contextmanager
def picture(path: Path, size: tuple[float, float], rows: int = 1, columns: int = 1) -> Iterator[Any]:
    """matplotlib's axes (rows, columns), which share x; written to `path` when the block is left. size: in inches."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, sharex=True)
    try:
        yield axes
        with new_file(path) as part:
            figure.savefig(part, dpi=120)
    finally:
        plt.close(figure)
