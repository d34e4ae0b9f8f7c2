"""The defects that were planted into a source in the Open Images layout, and the clean truth behind them."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["OWN_RULES", "Planted", "read_planted", "true_boxes"]

# The rules that are made for a kind of defect. Another one may find it too, as the size band finds merged boxes.
OWN_RULES = {
    "group_of": {"IsGroupOf"},
    "depiction": {"IsDepiction"},
    "doubled": {"overlap"},
    "merged": {"size_band", "aspect_band", "merged"},
    "blurred": {"blur"},
    "duplicate_of": {"near_duplicate"},
    "shifted": {"edge_support", "shifted"},
    "missing": {"missing"},
}


@dataclass(frozen=True)
class Planted:
    """defect: kind by image id. clean: ids of images with a box of the class and no defect."""

    defect: dict[str, str]
    clean: frozenset[str]


def read_planted(source: Path, class_name: str) -> Planted:
    """Read truth/defects.csv; only images that hold a box of the class count."""
    with (source / "truth" / "defects.csv").open() as file:
        defect = {line["ImageID"]: line["defect"].partition(":")[0] for line in csv.DictReader(file)}
    ids = {name for name, _ in _rows(source / "labels" / "detections.csv", _label(source, class_name))}
    return Planted({name: kind for name, kind in defect.items() if name in ids}, frozenset(ids - set(defect)))


def true_boxes(source: Path, class_name: str) -> dict[str, np.ndarray]:
    """Boxes of the class by image id as they were before anything was planted: (n, 4) float64 xyxy, fractions."""
    found: dict[str, list[list[float]]] = {}
    for name, box in _rows(source / "truth" / "detections.csv", _label(source, class_name)):
        found.setdefault(name, []).append(box)
    return {name: np.array(boxes) for name, boxes in found.items()}


def _label(source: Path, class_name: str) -> str:
    with (source / "metadata" / "classes.csv").open() as file:
        return next(label for label, name in csv.reader(file) if name == class_name)


def _rows(path: Path, label: str) -> list[tuple[str, list[float]]]:
    with path.open() as file:
        return [
            (line["ImageID"], [float(line[side]) for side in ("XMin", "YMin", "XMax", "YMax")])
            for line in csv.DictReader(file)
            if line["LabelName"] == label
        ]
