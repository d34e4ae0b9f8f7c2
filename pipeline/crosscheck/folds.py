"""Deals the images that a recipe keeps to folds, as plain YOLO folders that training reads. It trains nothing.

Photos that show nearly the same go to the same fold, or a network would have seen what it is to judge.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.curate.examine import Examination
from pipeline.curate.labels import labels_key
from pipeline.curate.recipe import Recipe
from pipeline.curate.splits import stable_fraction
from pipeline.errors import refuse
from pipeline.experiment import DataSource, Experiment, Stage, Start
from pipeline.files import new_folder, write_text
from pipeline.yolo_folder import yolo_rows

__all__ = ["Material", "fold_experiment", "gather", "lay_out"]

# What follows the main part, at a tenth of its rate: it takes the noise of the last steps out of the weights.
_COOLING = 0.35


@dataclass(frozen=True)
class Material:
    """The images to be judged, with the boxes that a recipe keeps.

    image_ids, paths, keys: of M images; a key names photo and boxes, see `labels_key`. boxes: M arrays, (n, 4) float64
    xyxy as fractions of the photo. classes: M arrays, (n,) int64, of the recipe's. fold: (M,) int64.
    """

    image_ids: tuple[str, ...]
    paths: tuple[Path, ...]
    keys: tuple[str, ...]
    boxes: tuple[np.ndarray, ...]
    classes: tuple[np.ndarray, ...]
    fold: np.ndarray


def gather(recipe: Recipe, examined: Examination) -> Material:
    """Take the images and boxes that are kept; refuse where a fold would have nothing to learn from."""
    decisions, annotations = examined.decisions, examined.decisions.annotations
    live = np.flatnonzero(decisions.live)
    kept = np.flatnonzero(decisions.images.kept)
    rows = [live[annotations.image[live] == index] for index in kept]
    names = [annotations.image_ids[examined.cluster[index]] for index in kept]
    fold = np.array([int(stable_fraction(f"fold {name}", recipe.seed) * recipe.labels.folds) for name in names])
    if len(np.unique(fold)) < recipe.labels.folds:
        raise refuse(
            f"recipe {recipe.name}", f"{len(kept)} images for {recipe.labels.folds} folds", "lower labels.folds"
        )
    paths = [annotations.paths[index] for index in kept]
    boxes = tuple(annotations.boxes[part] for part in rows)
    return Material(
        image_ids=tuple(annotations.image_ids[index] for index in kept),
        paths=tuple(path for path in paths if path is not None),
        keys=tuple(labels_key(examined.sha256[index], part) for index, part in zip(kept, boxes, strict=True)),
        boxes=boxes,
        classes=tuple(decisions.classes[part] for part in rows),
        fold=fold,
    )


def lay_out(recipe: Recipe, material: Material, root: Path) -> list[Path]:
    """Write a folder per fold under `root`: `train` holds the other folds, `val` this one. Photos are linked."""
    with new_folder(root) as part:
        for name in ("images", "labels"):
            (part / name).mkdir()
        for image_id, path, boxes, classes in zip(
            material.image_ids, material.paths, material.boxes, material.classes, strict=True
        ):
            (part / "images" / f"{image_id}{path.suffix}").symlink_to(path.resolve())
            write_text(part / "labels" / f"{image_id}.txt", yolo_rows(boxes, classes))
        photos = [
            f"../images/{name}{path.suffix}" for name, path in zip(material.image_ids, material.paths, strict=True)
        ]
        for fold in range(recipe.labels.folds):
            for split, chosen in (("train", material.fold != fold), ("val", material.fold == fold)):
                lines = [photo for photo, is_chosen in zip(photos, chosen, strict=True) if is_chosen]
                write_text(part / f"fold{fold}" / f"{split}.txt", "".join(f"{line}\n" for line in lines))
            names = "".join(f"  {index}: {name!r}\n" for index, name in enumerate(recipe.output_classes))
            write_text(part / f"fold{fold}" / "data.yaml", f"train: train.txt\nval: val.txt\nnames:\n{names}")
    return [root / f"fold{fold}" for fold in range(recipe.labels.folds)]


def fold_experiment(recipe: Recipe, folders: list[Path], name: str) -> Experiment:
    """One network per fold, from scratch, first at full rate and then at a tenth of it."""
    stages = []
    for fold in range(len(folders)):
        main = Stage(name=f"fold{fold}", data=f"fold{fold}", iterations=recipe.labels.iterations)
        cooling = max(1, round(_COOLING * recipe.labels.iterations))
        stages += [
            main,
            Stage(
                name=f"fold{fold}-cooled",
                data=f"fold{fold}",
                starts=(Start(name="main", stage=main.name),),
                iterations=cooling,
                learning_rate=0.0001,
            ),
        ]
    return Experiment(
        name=name,
        size=recipe.labels.size,
        resize=recipe.network.resize,
        burn_in=min(50, recipe.labels.iterations),
        seeds=(recipe.seed,),
        data={f"fold{fold}": DataSource(path=folder) for fold, folder in enumerate(folders)},
        stages=tuple(stages),
    )
