"""Anchors for a set beside those of a cfg, on the same boxes; and a new cfg that has them. No cfg is changed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.curated import read_curated_set
from pipeline.darknet.cfg import Cfg, Section, network_cfg, with_options
from pipeline.errors import refuse
from pipeline.files import write_text
from pipeline.train.anchors import anchors_of, average_iou, box_sizes, possible_recall

__all__ = ["Fit", "FittedAnchors", "anchors_line", "anchors_text", "cfg_anchors", "fit_anchors"]


@dataclass(frozen=True)
class Fit:
    """Anchors, (K, 2) in pixels of the input, and how they fit the boxes: both figures from 0 to 1.

    average_iou: with the best anchor of each box. recall: share of the boxes that some anchor fits above IoU 0.5, the
    most that could be found before anything is learned.
    """

    anchors: np.ndarray
    average_iou: float
    recall: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        content = {"anchors": self.anchors.tolist(), "line": anchors_line(self.anchors)}
        return content | {"average_iou": self.average_iou, "possible_recall": self.recall}


@dataclass(frozen=True)
class FittedAnchors:
    """The anchors found and those of the cfg. written: the new cfg, or None."""

    data: Path
    split: str
    boxes: int
    width: int
    height: int
    resize: str
    seed: int
    cfg: str
    found: Fit
    before: Fit
    written: Path | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = ("split", "boxes", "width", "height", "resize", "seed", "cfg")
        content = {"data": str(self.data)} | {name: getattr(self, name) for name in names}
        content |= {"found": self.found.as_dict(), "before": self.before.as_dict()}
        return content | {"written": None if self.written is None else str(self.written)}


def fit_anchors(
    root: Path,
    count: int,
    size: tuple[int, int] | None,
    resize: str,
    split: str,
    seed: int,
    network: str,
    write: Path | None = None,
) -> FittedAnchors:
    """Find anchors for the boxes of a split, and write a cfg with them where asked to.

    Args:
        root: a curated set or a YOLO folder.
        count: how many.
        size: width and height of the input in pixels; None for that of the cfg.
        resize: stretch or letterbox.
        split: whose boxes.
        seed: of the starts.
        network: name or path of the cfg to compare with, and to write another one from.
        write: the new cfg.

    Raises:
        UserError: a count below 1 or above that of different boxes, a cfg without shared anchors, or `write` is
            no name of a cfg or is there already.
    """
    cfg = network_cfg(network)
    before = cfg_anchors(cfg)
    width, height = size or (cfg.net.integer("width", at_least=1), cfg.net.integer("height", at_least=1))
    if write is not None:
        _refuse_to_write(write, cfg, count)
    sizes = box_sizes(read_curated_set(root, only=split).splits[split], width, height, resize)
    found = _to_the_tenth(anchors_of(sizes, count, seed).values)
    if write is not None:
        _write_cfg(write, cfg, found, width, height)
    return FittedAnchors(
        root, split, len(sizes), width, height, resize, seed, network, _fit(sizes, found), _fit(sizes, before), write
    )


def anchors_text(fitted: FittedAnchors) -> str:
    """The line for a cfg and how it fits, for a terminal."""
    where = f"{fitted.boxes} boxes of {fitted.split} of {fitted.data}"
    lines = [f"{where}, at {fitted.width} x {fitted.height} pixels, resize {fitted.resize}"]
    for name, fit in (("found", fitted.found), (fitted.cfg, fitted.before)):
        figures = f"average IoU {100 * fit.average_iou:.2f} %, possible recall {100 * fit.recall:.2f} %"
        lines.append(f"{name}: {figures}\n  {anchors_line(fit.anchors)}")
    if fitted.written is not None:
        lines.append(
            f"{fitted.written} is {fitted.cfg} with the anchors found; its heads must start anew: "
            "boxes of trained heads would get a wrong size"
        )
    return "\n".join(lines)


def cfg_anchors(cfg: Cfg) -> np.ndarray:
    """The anchors that all yolo heads of a cfg share: (K, 2) float64, pixels of its input, in its order.

    Raises:
        UserError: no yolo head, heads that name different anchors, or no pairs above 0.
    """
    heads = _heads(cfg)
    values = {head.numbers("anchors") for head in heads}
    if len(values) > 1:
        raise refuse(cfg.path, "its [yolo] sections name different anchors", "give a cfg whose heads share them")
    numbers = values.pop()
    if len(numbers) % 2 or min(numbers) <= 0:
        found = f"anchors={heads[0].text('anchors')}"
        raise heads[0].error(found, "give pairs of width and height above 0", "anchors")
    return np.array(numbers, np.float64).reshape(-1, 2)


def anchors_line(values: np.ndarray) -> str:
    """Anchors, (K, 2), as a line of a cfg, to the tenth of a pixel.

    >>> anchors_line(np.array([[10, 14.04], [23.27, 27]]))
    'anchors = 10,14, 23.3,27'
    """
    return "anchors = " + _pairs(values)


def _refuse_to_write(path: Path, cfg: Cfg, count: int) -> None:
    has = len(cfg_anchors(cfg))
    if has != count:
        raise refuse(cfg.path, f"has {has} anchors, not {count}", f"give --count {has}, or --cfg with {count} anchors")
    if path.suffix != ".cfg":
        raise refuse(path, "no name of a cfg", f"write to {path.with_suffix('.cfg').name}")
    if path.exists():
        raise refuse(path, "is there already", "give another name; no cfg is overwritten")


def _write_cfg(path: Path, cfg: Cfg, values: np.ndarray, width: int, height: int) -> None:
    """Write `cfg` with other anchors, (K, 2) by area, and the input size that they are meant for.

    Masks stay as they are: where the old anchors are not in the order of their area, neither are the new ones.
    """
    placed = np.empty_like(values)
    placed[np.argsort(cfg_anchors(cfg).prod(axis=1), kind="stable")] = values
    heads = [index for index, section in enumerate(cfg.layers) if section.kind == "yolo"]
    size = {"width": str(width), "height": str(height)}
    write_text(path, with_options(cfg, {index: {"anchors": _pairs(placed)} for index in heads}, size).text)


def _fit(sizes: np.ndarray, anchors: np.ndarray) -> Fit:
    return Fit(anchors, average_iou(sizes, anchors), possible_recall(sizes, anchors))


def _to_the_tenth(values: np.ndarray) -> np.ndarray:
    """As they are written, so that the figures are those of the cfg."""
    return np.maximum(values.round(1), 0.1)


def _heads(cfg: Cfg) -> list[Section]:
    heads = [section for section in cfg.layers if section.kind == "yolo"]
    if not heads:
        raise refuse(cfg.path, "has no [yolo] layer", "give the cfg of a detector, for example yolov3-tiny")
    return heads


def _pairs(values: np.ndarray) -> str:
    return ", ".join(",".join(f"{float(number):g}" for number in pair) for pair in values)
