"""The stage from a recipe and a source folder to a curated set. A script over the parts; each rule lives elsewhere."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.curate.duplicates import near_duplicate_clusters, perceptual_hashes
from pipeline.curate.ledger import write_ledger
from pipeline.curate.readers import Annotations, read_open_images
from pipeline.curate.recipe import Recipe
from pipeline.curate.rules import Decisions, Remaining, apply_rules
from pipeline.curate.splits import assign_splits
from pipeline.curated import (
    SPLITS,
    NewImage,
    file_sha256,
    hash_curated_set,
    read_dataset_json,
    write_curated_set,
)
from pipeline.errors import refuse

__all__ = ["CurationSummary", "Progress", "SplitCount", "curate"]

Progress = Callable[[str, int, int], None]  # what is being done, how many are done, out of how many


@dataclass(frozen=True)
class SplitCount:
    """Photos and boxes of one split."""

    images: int
    boxes: int


@dataclass(frozen=True)
class CurationSummary:
    """What came out: counts after each rule in order, counts per split, whether the set was there already."""

    name: str
    root: Path
    remaining: tuple[Remaining, ...]
    splits: dict[str, SplitCount]
    near_duplicates: int  # selected photos that resemble another photo of the source
    content_hash: str
    up_to_date: bool
    seconds: float


def curate(recipe: Recipe, source: Path | None, out: Path, progress: Progress | None = None) -> CurationSummary:
    """Make the curated set `out` from `source` by `recipe`, unless it is there and nothing has changed.

    source: folder in the layout the recipe names; None takes the recipe's own path. Every file of the source that
    counts is hashed on every call, and so is the set, so "nothing has changed" is a fact. A set that was changed by
    hand is refused rather than overwritten, and so is a folder that is no curated set.
    """
    started = time.perf_counter()
    report = progress or (lambda *_: None)
    folder = source or recipe.source.path
    if folder is None:
        raise refuse(
            f"recipe {recipe.name}", "no source folder", "give its path in the experiment or on the command line"
        )
    known = _existing(out)
    annotations = read_open_images(folder)
    checksums = _checksums(folder, annotations, report)
    source_sha256 = hashlib.sha256(json.dumps(checksums, sort_keys=True).encode()).hexdigest()
    inputs = {"recipe_sha256": recipe.sha256(), "source_sha256": source_sha256}
    if known is None or any(known.get(key) != value for key, value in inputs.items()):
        known = _make(recipe, annotations, checksums, inputs, out, report)
        up_to_date = False
    else:
        up_to_date = True
    return CurationSummary(
        name=recipe.name,
        root=out,
        remaining=tuple(Remaining(**step) for step in known["remaining"]),
        splits={split: SplitCount(**counts) for split, counts in known["splits"].items()},
        near_duplicates=known["near_duplicates"],
        content_hash=known["content_hash"],
        up_to_date=up_to_date,
        seconds=time.perf_counter() - started,
    )


def _existing(out: Path) -> dict[str, Any] | None:
    """What lies at `out`: None for nothing, dataset.json for a set as it was written; anything else is refused."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    about = read_dataset_json(out) if out.is_dir() else None
    if about is None:
        raise refuse(out, "exists and is no curated set", "name another folder, or move this one away")
    if hash_curated_set(out) != about["content_hash"]:
        raise refuse(out, "its photos or labels were changed after curating", "move it away, then curate again")
    return about


def _checksums(folder: Path, annotations: Annotations, report: Progress) -> dict[str, str]:
    """SHA-256 of every file that the set depends on, by its path in the source folder."""
    files = [folder / "labels" / "detections.csv", folder / "metadata" / "classes.csv", *annotations.paths]
    checksums = {}
    for index, path in enumerate(files, start=1):
        checksums[path.relative_to(folder).as_posix()] = file_sha256(path)
        report("hash", index, len(files))
    return checksums


def _make(
    recipe: Recipe,
    annotations: Annotations,
    checksums: dict[str, str],
    inputs: dict[str, str],
    out: Path,
    report: Progress,
) -> dict[str, Any]:
    """Apply the recipe and write the set; returns what its dataset.json says."""
    decisions = apply_rules(annotations, recipe)
    # Every photo of the source is hashed, not only the selected: so recipes over the same photos agree on the clusters.
    total = len(annotations.paths)
    hashes = perceptual_hashes(annotations.paths, lambda done: report("compare", done, total))
    cluster, nearest = near_duplicate_clusters(hashes, recipe.near_duplicate_distance)
    kept = decisions.images.kept
    decisions.images.value[kept] = nearest[kept]
    decisions.images.threshold[kept] = recipe.near_duplicate_distance
    split = assign_splits(cluster, annotations.image_ids, kept, recipe.split, recipe.seed)
    about = inputs | {
        "description": recipe.description,
        "licences": [recipe.licence],
        "remaining": [asdict(step) for step in decisions.remaining],
        "near_duplicates": int((kept & (nearest <= recipe.near_duplicate_distance)).sum()),
        "recipe": recipe.as_dict(),
    }
    write_curated_set(
        out,
        recipe.name,
        recipe.output_classes,
        _selected(annotations, decisions, split),
        about,
        add=lambda part: write_ledger(
            part / "ledger.parquet", annotations, decisions, cluster, split, checksums, inputs["recipe_sha256"]
        ),
        progress=lambda done: report("write", done, int(kept.sum())),
    )
    written = read_dataset_json(out)
    assert written is not None
    return written


def _selected(annotations: Annotations, decisions: Decisions, split: np.ndarray) -> dict[str, list[NewImage]]:
    """The kept images of each split with their kept boxes, sorted by id."""
    boxes = np.flatnonzero(decisions.boxes.kept)
    boxes = boxes[np.argsort(annotations.image[boxes], kind="stable")]
    starts = np.searchsorted(annotations.image[boxes], np.arange(len(annotations.image_ids) + 1))
    selected: dict[str, list[NewImage]] = {name: [] for name in SPLITS}
    for index in np.flatnonzero(decisions.images.kept):
        own = boxes[starts[index] : starts[index + 1]]
        image = NewImage(
            annotations.paths[index], annotations.image_ids[index], annotations.boxes[own], decisions.classes[own]
        )
        selected[SPLITS[split[index]]].append(image)
    return selected
