"""The stage from a recipe and a source to a curated set. A script over the parts; each rule lives elsewhere."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.curate.annotations import Annotations, joined
from pipeline.curate.decisions import Remaining
from pipeline.curate.examine import Examination, Fetcher, Progress, examine
from pipeline.curate.fetch import fetch_photos
from pipeline.curate.flightsource import unreviewed_ids
from pipeline.curate.labels import read_predictions
from pipeline.curate.ledger import write_ledger
from pipeline.curate.official import IMAGES_URL, ensure_official, local_official
from pipeline.curate.overrides import read_overrides, verdicts_of
from pipeline.curate.readers import read_source
from pipeline.curate.readers.common import only_options
from pipeline.curate.readers.open_images_v7 import read_official
from pipeline.curate.recipe import Recipe
from pipeline.curate.scorecache import ScoreCache
from pipeline.curated import (
    SPLITS,
    NewImage,
    file_sha256,
    hash_curated_set,
    read_dataset_json,
    write_curated_set,
)
from pipeline.errors import refuse
from pipeline.interrupt import stop_on_signals

__all__ = ["CurationSummary", "Inputs", "SplitCount", "curate", "examine_source"]


@dataclass(frozen=True)
class Inputs:
    """What a curated set is made from besides its recipe.

    Attributes:
        source: folder in the layout the recipe names; None takes the recipe's own path.
        cache: folder for what is downloaded and measured; None keeps measures for this call alone, and cannot fetch.
        overrides: CSV file of what a person said about images; None, or a file that is not there, says nothing.
        flights: folders that `flightsource.write_flight_source` laid down; their frames take part once a person
            said keep.
        predictions: what networks predict that did not see the photo; see `labels`.
        backbone: Darknet weights whose features tell photos apart when the most diverse are selected. As with the
            predictions, a file that is not there says nothing.
    """

    source: Path | None = None
    cache: Path | None = None
    overrides: Path | None = None
    flights: tuple[Path, ...] = ()
    predictions: Path | None = None
    backbone: Path | None = None


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
    fetch_failures: int
    unjudged: int  # images that the recipe wants cross-checked and nobody did, as they are now
    content_hash: str
    up_to_date: bool
    seconds: float


def curate(recipe: Recipe, inputs: Inputs, out: Path, report: Progress | None = None) -> CurationSummary:
    """Make the curated set `out` by `recipe`, unless it is there and nothing has changed.

    Every file that counts is hashed on every call, and so is the set, so "nothing has changed" is a fact. A set that
    was changed by hand is refused rather than overwritten, and so is a folder that is no curated set.

    Raises:
        UserError: what the recipe, the source, the verdicts or a flight have wrong, a rule that leaves no image, or a
            set that was changed by hand.
    """
    started = time.perf_counter()
    report = report or (lambda *_: None)
    known = _existing(out)
    examined = examine_source(recipe, inputs, report)
    files_sha256 = {path: file_sha256(path) for path in examined.decisions.annotations.files}
    origin = {"recipe_sha256": recipe.sha256(), "source_sha256": _source_sha256(examined, files_sha256, inputs)}
    is_up_to_date = known is not None and all(known.get(key) == value for key, value in origin.items())
    if not is_up_to_date:
        _write(recipe, examined, files_sha256, origin, out, report)
        known = read_dataset_json(out)
    assert known is not None
    return CurationSummary(
        name=recipe.name,
        root=out,
        remaining=tuple(Remaining(**step) for step in known["remaining"]),
        splits={split: SplitCount(**counts) for split, counts in known["splits"].items()},
        near_duplicates=known["near_duplicates"],
        fetch_failures=len(examined.failed),
        unjudged=examined.unjudged,
        content_hash=known["content_hash"],
        up_to_date=is_up_to_date,
        seconds=time.perf_counter() - started,
    )


def examine_source(recipe: Recipe, inputs: Inputs, report: Progress) -> Examination:
    """Read the source and take it through every rule; nothing is written but the cache.

    Raises:
        UserError: as `curate`, but for the set.
    """
    annotations = joined([_read(recipe, inputs, report), *(_read_flight(recipe, folder) for folder in inputs.flights)])
    drafts = frozenset(image_id for folder in inputs.flights for image_id in unreviewed_ids(folder))
    said = verdicts_of(read_overrides(inputs.overrides)) if inputs.overrides is not None else {}
    fetch = _fetcher(recipe, inputs.cache, report)
    path = inputs.predictions
    predictions = read_predictions(path) if path is not None and path.is_file() else None
    with ScoreCache(inputs.cache / "scores.sqlite3" if inputs.cache is not None else None) as cache:
        backbone = inputs.backbone if inputs.backbone is not None and inputs.backbone.is_file() else None
        return examine(recipe, annotations, said, cache, fetch, predictions, backbone, drafts, report)


def _read(recipe: Recipe, inputs: Inputs, report: Progress) -> Annotations:
    source = recipe.source
    folder = inputs.source or source.path
    if source.format == "open-images-v7":
        return _read_official(recipe, folder, inputs.cache, report)
    if folder is None:
        raise refuse(
            f"recipe {recipe.name}", "no source folder", "give its path in the experiment or on the command line"
        )
    return read_source(source.format, folder, source.options)


def _read_official(recipe: Recipe, folder: Path | None, cache: Path | None, report: Progress) -> Annotations:
    """The official box files: from `folder`, or downloaded into the cache."""
    source = recipe.source
    only_options(source.options, ("annotations_url", "photos_url"), source.format)
    if folder is not None:
        files = local_official(folder, source.subsets)
    elif cache is not None:
        files = ensure_official(cache, source.subsets, source.options.get("annotations_url"), report)
    else:
        raise refuse(f"recipe {recipe.name}", "no cache to download to", "give one, or the folder of the box files")
    return read_official(files, (*recipe.classes, *recipe.exclude_images_with))


def _read_flight(recipe: Recipe, folder: Path) -> Annotations:
    """Frames of a flight; a class of the curated set is the recipe's class that it was made of."""
    flight = read_source("yolo", folder, {})
    of_source = dict(zip(recipe.output_classes, recipe.classes, strict=False))
    names = tuple(name if name in recipe.classes else of_source.get(name, name) for name in flight.class_names)
    return replace(flight, class_names=names)


def _fetcher(recipe: Recipe, cache: Path | None, report: Progress) -> Fetcher | None:
    """Gets photos from the public bucket, or from the mirror that the recipe names, into the cache."""
    if cache is None:
        return None

    def fetch(wanted: Mapping[str, str]) -> tuple[Mapping[str, Path], Mapping[str, str]]:
        url = recipe.source.options.get("photos_url", IMAGES_URL)
        with stop_on_signals() as stop:
            fetched = fetch_photos(
                wanted,
                url,
                cache / "photos",
                stop=lambda: stop.is_set,
                progress=lambda done, total: report("fetch", done, total),
            )
        return fetched.paths, fetched.failed

    return fetch


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


def _source_sha256(examined: Examination, files_sha256: Mapping[Path, str], inputs: Inputs) -> str:
    """Hash over everything that was read: annotation files, photos, what a person said, predictions, weights."""
    annotations = examined.decisions.annotations
    photos = sorted(zip(annotations.image_ids, examined.sha256.tolist(), strict=True))
    others = [path for path in (inputs.overrides, inputs.predictions, inputs.backbone) if path and path.is_file()]
    parts = [list(files_sha256.values()), photos, [file_sha256(path) for path in others]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _write(
    recipe: Recipe,
    examined: Examination,
    files_sha256: Mapping[Path, str],
    origin: dict[str, str],
    out: Path,
    report: Progress,
) -> None:
    decisions = examined.decisions
    kept = decisions.images.kept
    about = origin | {
        "description": recipe.description,
        "licences": [recipe.licence],
        "remaining": [asdict(step) for step in decisions.remaining],
        "near_duplicates": int((kept & (examined.nearest <= recipe.near_duplicate_distance)).sum()),
        "recipe": recipe.as_dict(),
    }
    write_curated_set(
        out,
        recipe.name,
        recipe.output_classes,
        _selected(examined),
        about,
        add=lambda part: write_ledger(part / "ledger.parquet", examined, files_sha256, origin["recipe_sha256"]),
        progress=lambda done: report("write", done, int(kept.sum())),
    )


def _selected(examined: Examination) -> dict[str, list[NewImage]]:
    """The kept images of each split with their kept boxes, sorted by id."""
    decisions, annotations = examined.decisions, examined.decisions.annotations
    boxes = np.flatnonzero(decisions.boxes.kept)
    boxes = boxes[np.argsort(annotations.image[boxes], kind="stable")]
    starts = np.searchsorted(annotations.image[boxes], np.arange(len(annotations.image_ids) + 1))
    selected: dict[str, list[NewImage]] = {name: [] for name in SPLITS}
    for index in np.flatnonzero(decisions.images.kept):
        own = boxes[starts[index] : starts[index + 1]]
        path = annotations.paths[index]
        assert path is not None, "what could not be fetched is not kept"
        image = NewImage(path, annotations.image_ids[index], annotations.boxes[own], decisions.classes[own])
        selected[SPLITS[examined.split[index]]].append(image)
    return selected
