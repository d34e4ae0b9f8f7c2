"""Takes a source through every rule of a recipe, in order, and keeps what was measured on the way. It writes no set.

The order is that of cost: rules on the annotations, sizes, fetching the survivors, pixels, near-duplicates, labels,
selection. What is measured goes to the score cache, so that a rerun measures nothing twice.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipeline.curate.annotations import Annotations
from pipeline.curate.decisions import Decisions
from pipeline.curate.duplicates import near_duplicate_clusters, perceptual_hash, weaker_twins
from pipeline.curate.flightsource import UNREVIEWED
from pipeline.curate.labels import Predictions, score_labels
from pipeline.curate.pixels import SIDES, photo_scores
from pipeline.curate.recipe import Recipe
from pipeline.curate.rules import apply_rules, apply_size_rules, boxes_by_image, deviations, output_classes
from pipeline.curate.scorecache import ScoreCache, cache_key
from pipeline.curate.select import Backbone, farthest_points, quality
from pipeline.curate.splits import assign_splits
from pipeline.files import file_sha256
from pipeline.photos import photo_size, read_rgb

__all__ = ["Examination", "Fetcher", "Progress", "examine"]

Progress = Callable[[str, int, int], None]  # what is being done, how many are done, out of how many
_Result = TypeVar("_Result")
Fetcher = Callable[[Mapping[str, str]], tuple[Mapping[str, Path], Mapping[str, str]]]  # to photos, and to failures


@dataclass(frozen=True)
class Examination:
    """What is known of every image and box when the last rule has spoken.

    decisions: see there; its annotations have the paths of what was fetched. sha256: (M,) object, of every photo, ""
    where there is none. sizes: (M, 2) float64, NaN where unknown. scores: (M,) float64 each, box_scores: (N,) float64
    each, NaN where nothing was measured. cluster: (M,) int64, the first image among those that show nearly the same.
    nearest: (M,) int64, bits to the most similar other photo. split: (M,) int64. failed: why, by image id.
    unjudged: how many images with boxes the recipe wants cross-checked and nobody did, as they are now.
    """

    decisions: Decisions
    sha256: np.ndarray
    sizes: np.ndarray
    scores: dict[str, np.ndarray]
    box_scores: dict[str, np.ndarray]
    cluster: np.ndarray
    nearest: np.ndarray
    split: np.ndarray
    failed: Mapping[str, str]
    unjudged: int


def examine(
    recipe: Recipe,
    annotations: Annotations,
    overrides: Mapping[str, str],
    cache: ScoreCache,
    fetch: Fetcher | None = None,
    predictions: Predictions | None = None,
    backbone: Path | None = None,
    drafts: Collection[str] = (),
    report: Progress | None = None,
) -> Examination:
    """Apply `recipe` to `annotations`.

    overrides: keep, drop or fix by image id. fetch: gets the photos that lie nowhere yet. predictions: of networks
    that never saw the photos, if there are any. backbone: weights for the features that tell photos apart. drafts: ids
    of images whose boxes a detector drew and nobody has looked at.

    Raises:
        UserError: a rule leaves no image, or a photo cannot be read.
    """
    work = _Work(recipe, annotations, overrides, cache, report or (lambda *_: None))
    if drafts:
        work.decisions.drop_images(UNREVIEWED, np.isin(annotations.image_ids, list(drafts)))
    apply_rules(work.decisions, recipe)
    is_sized = np.isfinite(work.sizes).all(axis=1) | np.array([path is not None for path in annotations.paths])
    if is_sized[work.decisions.images.kept].all():  # what sizes rule out need not be fetched
        work.judge_sizes()
        work.fetch(fetch)
    else:
        work.fetch(fetch)
        work.judge_sizes()
    work.hash_photos()
    work.judge_pixels()
    work.judge_twins()
    work.judge_labels(predictions)
    work.select(backbone)
    work.decisions.finish()
    split = assign_splits(work.cluster, annotations.image_ids, work.decisions.images.kept, recipe.split, recipe.seed)
    return Examination(
        decisions=work.decisions,
        sha256=work.sha256,
        sizes=work.sizes,
        scores=work.scores,
        box_scores=work.box_scores,
        cluster=work.cluster,
        nearest=work.nearest,
        split=split,
        failed=work.failed,
        unjudged=work.unjudged,
    )


class _Work:
    """The state between the steps of `examine`, one method per step."""

    def __init__(
        self,
        recipe: Recipe,
        annotations: Annotations,
        overrides: Mapping[str, str],
        cache: ScoreCache,
        report: Progress,
    ) -> None:
        self.recipe, self.cache, self.report = recipe, cache, report
        self.decisions = Decisions(recipe.name, annotations, output_classes(annotations, recipe), overrides)
        count = len(annotations.image_ids)
        self.sizes = annotations.sizes.copy()
        self.sha256 = np.full(count, "", dtype=object)
        self.scores: dict[str, np.ndarray] = {}
        self.box_scores: dict[str, np.ndarray] = {}
        self.hashes = np.zeros(count, dtype=np.uint64)
        self.cluster, self.nearest = np.arange(count), np.full(count, 64)
        self.failed: Mapping[str, str] = {}
        self.unjudged = 0

    @property
    def paths(self) -> Sequence[Path | None]:
        return self.decisions.annotations.paths

    @property
    def kept(self) -> np.ndarray:
        return self.decisions.images.kept

    def path(self, index: int | np.integer) -> Path:
        path = self.paths[int(index)]
        assert path is not None
        return path

    def judge_sizes(self) -> None:
        """Take the sizes that nobody told from the photos' headers, and apply the rules that need them."""
        limits = self.recipe.limits
        if limits.smallest_side is limits.aspect_band is limits.size_band is None:
            return
        unknown = np.flatnonzero(self.kept & ~np.isfinite(self.sizes).all(axis=1))
        for index in unknown:
            self.sizes[index] = photo_size(self.path(index))
        apply_size_rules(self.decisions, self.recipe, self.sizes)

    def fetch(self, fetch: Fetcher | None) -> None:
        """Get the photos of the images that are left; what cannot be had goes, whatever anybody said."""
        annotations = self.decisions.annotations
        wanted = {
            annotations.image_ids[index]: annotations.fetch[annotations.image_ids[index]]
            for index in np.flatnonzero(self.kept)
            if annotations.paths[index] is None
        }
        if not wanted:
            return
        assert fetch is not None, "a source without photos needs somebody to fetch them"
        found, self.failed = fetch(wanted)
        paths = tuple(
            found.get(image_id, path) for image_id, path in zip(annotations.image_ids, annotations.paths, strict=True)
        )
        self.decisions.annotations = replace(annotations, paths=paths)
        is_missing = self.kept & np.array([path is None for path in paths])
        self.decisions.images.pinned &= ~is_missing
        self.decisions.drop_images("fetch_failed", is_missing)

    def hash_photos(self) -> None:
        """Checksum, perceptual hash and cluster of every photo that is there, whether wanted or not.

        All of them, so that recipes over the same photos agree about what resembles what.
        """
        there = [index for index, path in enumerate(self.paths) if path is not None]
        hashed = _in_threads(lambda index: file_sha256(self.path(index)), there)
        for done, (index, sha256) in enumerate(hashed, start=1):
            self.sha256[index] = sha256
            self.report("hash", done, len(there))
        keys = {index: cache_key("phash-1", self.sha256[index]) for index in there}

        def bits(index: int) -> np.ndarray:
            # two halves, since not every integer of 64 bits is a float64
            return np.array(divmod(perceptual_hash(self.path(index)), 1 << 32), dtype=np.float64)

        for index, (high, low) in self._measured("compare", keys, bits):
            self.hashes[index] = np.uint64(int(high) << 32 | int(low))
        cluster, nearest = near_duplicate_clusters(self.hashes[there], self.recipe.near_duplicate_distance)
        self.cluster[there], self.nearest[there] = np.array(there, dtype=np.int64)[cluster], nearest

    def judge_pixels(self) -> None:
        """Blur, exposure and edge support of what is left; only where the recipe asks for any of it."""
        limits, recipe = self.recipe.pixels, self.recipe
        is_asked = (limits.blur_band, limits.clipped_share, limits.edge_support_band, recipe.select) != (None,) * 4
        if not is_asked and limits.near_duplicates == "keep" and not recipe.labels.is_asked:
            return
        self._score_pixels()
        scores, decisions = self.scores, self.decisions
        if limits.blur_band is not None:
            scores["blur_deviation"] = deviations(scores["blur"], self.kept)
            decisions.limit_images("blur", scores["blur_deviation"], limits.blur_band)
        if limits.clipped_share is not None:
            decisions.limit_images("clipped_share", scores["clipped_share"], limits.clipped_share)
        if limits.edge_support_band is not None:
            scores["edge_support_deviation"] = -deviations(scores["edge_support"], self.kept)
            decisions.limit_images("edge_support", scores["edge_support_deviation"], limits.edge_support_band)

    def _score_pixels(self) -> None:
        annotations = self.decisions.annotations
        live = np.flatnonzero(self.decisions.live)
        rows = {int(annotations.image[live[part[0]]]): live[part] for part in boxes_by_image(annotations.image[live])}
        nothing = np.empty(0, dtype=np.int64)
        boxes = {int(index): annotations.boxes[rows.get(int(index), nothing)] for index in np.flatnonzero(self.kept)}
        keys = {index: cache_key("pixels-1", self.sha256[index], boxes[index]) for index in boxes}

        def measure(index: int) -> np.ndarray:
            found = photo_scores(read_rgb(self.path(index)), boxes[index])
            return np.concatenate([[found.blur, found.brightness, found.clipped_share], found.edge_support.ravel()])

        for name in ("blur", "brightness", "clipped_share", "edge_support"):
            self.scores[name] = np.full(len(self.kept), np.nan)
        sides = np.full((len(annotations.row), len(SIDES)), np.nan)
        for index, values in self._measured("score", keys, measure):
            for name, value in zip(("blur", "brightness", "clipped_share"), values, strict=False):
                self.scores[name][index] = value
            if index in rows:
                sides[rows[index]] = values[3:].reshape(-1, len(SIDES))
                self.scores["edge_support"][index] = _mean_of_weakest(sides[rows[index]])
        self.box_scores |= {f"edge_{side}": sides[:, place] for place, side in enumerate(SIDES)}

    def judge_twins(self) -> None:
        """Of photos that show nearly the same keep the one with most pixels, of equals the sharpest."""
        if self.recipe.pixels.near_duplicates == "keep":
            return
        left = np.flatnonzero(self.kept)
        for index in left[~np.isfinite(self.sizes[left]).all(axis=1)]:
            self.sizes[index] = photo_size(self.path(index))
        pixels, blur = self.sizes.prod(axis=1), self.scores["blur"]
        order = sorted(left, key=lambda index: (not self.decisions.images.pinned[index], -pixels[index], blur[index]))
        distance = self.recipe.near_duplicate_distance
        is_weaker, bits = weaker_twins(self.hashes, np.array(order), distance)
        self.decisions.drop_images("near_duplicate", is_weaker, bits, distance)

    def judge_labels(self, predictions: Predictions | None) -> None:
        """Defects of the labels, by the predictions of networks that did not see them."""
        if not self.recipe.labels.is_asked:
            return
        has_boxes = self.decisions.per_image(self.decisions.live) > 0
        if predictions is None:
            self.unjudged = int((self.kept & has_boxes).sum())
            return
        sides = np.stack([self.box_scores[f"edge_{side}"] for side in SIDES], axis=1)
        scores, box_scores = score_labels(self.decisions, self.sha256, sides, predictions)
        self.scores |= scores
        self.box_scores |= box_scores
        self.unjudged = int((self.kept & has_boxes & np.isnan(scores["missing"])).sum())
        limits, decisions = self.recipe.labels, self.decisions
        if limits.merged is not None:
            decisions.limit_images("merged", scores["merged"], limits.merged)
        if limits.shifted_band is not None:
            self.scores["shifted_deviation"] = deviations(scores["shifted"], self.kept)
            decisions.limit_images("shifted", self.scores["shifted_deviation"], limits.shifted_band)
        if limits.missing is not None:
            decisions.limit_images("missing", scores["missing"], limits.missing)

    def select(self, backbone: Path | None) -> None:
        """The best, and among them the most diverse."""
        wanted = self.recipe.select
        if wanted is None:
            return
        good = {f"-{name}": -self.scores[name] for name in ("blur", "clipped_share")}
        good["edge_support"] = self.scores["edge_support"]
        good |= {f"-{name}": -self.scores[name] for name in ("merged", "shifted", "missing") if name in self.scores}
        self.scores["quality"] = quality(good, self.kept)
        preferred = self._preferred_share()
        pinned = self.decisions.images.pinned
        order = np.array(
            sorted(
                np.flatnonzero(self.kept),
                key=lambda index: (not pinned[index], -preferred[index], -self.scores["quality"][index]),
            )
        )
        place = np.full(len(self.kept), np.nan)
        place[order] = np.arange(1, len(order) + 1)
        if len(order) > wanted.images:
            pool = order[: max(round(wanted.images * wanted.pool), wanted.images)]
            features = self._features(pool, backbone)
            first = np.flatnonzero(pinned[pool])
            chosen = farthest_points(features, first.tolist() or [0], wanted.images)
            place[pool] += wanted.images
            place[pool[chosen]] = np.arange(1, len(chosen) + 1)
        self.decisions.drop_images("select", place > wanted.images, place, wanted.images)

    def _preferred_share(self) -> np.ndarray:
        """Share of each image's boxes that were made as the recipe prefers: (M,), 1 for all where it does not say."""
        if not self.recipe.prefer_sources:
            return np.ones(len(self.kept))
        is_preferred = np.isin(self.decisions.annotations.annotator, list(self.recipe.prefer_sources))
        live = self.decisions.live
        return self.decisions.per_image(live & is_preferred) / np.maximum(self.decisions.per_image(live), 1)

    def _features(self, pool: np.ndarray, weights: Path | None) -> np.ndarray:
        network = Backbone(weights)
        keys = {int(index): cache_key(network.version, self.sha256[index]) for index in pool}
        found = dict(self._measured("tell apart", keys, lambda index: network.features(read_rgb(self.path(index)))))
        return np.stack([found[int(index)] for index in pool])

    def _measured(
        self, stage: str, keys: Mapping[int, str], measure: Callable[[int], np.ndarray]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """The measure of every image in `keys`, from the cache or made now; what is made now is remembered at once."""
        known = self.cache.get(keys.values())
        yield from ((index, known[key]) for index, key in keys.items() if key in known)
        missing = [index for index, key in keys.items() if key not in known]
        done = len(keys) - len(missing)
        for index, value in _in_threads(measure, missing):
            self.cache.put(keys[index], value)
            done += 1
            self.report(stage, done, len(keys))
            yield index, value
        if not missing and keys:
            self.report(stage, done, len(keys))


def _in_threads(work: Callable[[int], _Result], items: Sequence[int]) -> Iterator[tuple[int, _Result]]:
    """Each item with what `work` makes of it, in order; who stops listening stops the work."""
    pool = ThreadPoolExecutor()
    try:
        yield from zip(items, pool.map(work, items), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _mean_of_weakest(sides: np.ndarray) -> float:
    """Mean over the boxes of their weakest side, of those that can be seen; sides: (n, 4), NaN on the border."""
    weakest = np.fmin.reduce(sides, axis=1)
    return float(np.nanmean(weakest)) if np.isfinite(weakest).any() else np.nan
