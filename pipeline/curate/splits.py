"""Deals clusters of near-duplicates to train, val and test. It knows nothing about what the photos hold."""

import hashlib
from collections.abc import Sequence

import numpy as np

from pipeline.curate.recipe import Split
from pipeline.errors import refuse

__all__ = ["assign_splits", "stable_fraction"]


def stable_fraction(text: str, seed: int) -> float:
    """A number in [0, 1) that depends on nothing but `text` and `seed`."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{text}".encode()).digest()[:8], "big") / 2**64


def assign_splits(
    cluster: np.ndarray, image_ids: Sequence[str], selected: np.ndarray, split: Split, seed: int
) -> np.ndarray:
    """Split of each image: (N,) int64, 0 train, 1 val, 2 test.

    cluster: (N,) index of each image's cluster, which is that of its smallest image id. selected: (N,) bool, the images
    that are wanted; the others get a split too, the one they would have.

    A cluster goes where the hash of its smallest id and the seed falls. So a new photo moves no other one, and two
    recipes over the same photos with the same seed and shares agree about every photo: what the target is tested on was
    not trained on in the generic set. Two exceptions keep small sets usable. A cluster larger than the share of val or
    test of all photos would be more than that split: it goes to train. And where a split that has a share is left
    without a selected image, it gets the cluster that came closest to it.
    """
    shares = np.array([split.train, split.val, split.test])
    shares /= shares.sum()
    keys, of_image = np.unique(cluster, return_inverse=True)
    fractions = np.array([stable_fraction(image_ids[key], seed) for key in keys])
    chosen = np.searchsorted(np.cumsum(shares)[:2], fractions, side="right")
    sizes = np.bincount(of_image)
    chosen[(sizes > 1) & (sizes > shares[chosen] * len(cluster))] = 0
    _fill_empty(chosen, fractions, np.unique(of_image[selected]), shares)
    return chosen[of_image]


def _fill_empty(chosen: np.ndarray, fractions: np.ndarray, candidates: np.ndarray, shares: np.ndarray) -> None:
    """Move clusters, among `candidates` only, until every split that has a share has one."""
    wanted = int((shares > 0).sum())
    if len(candidates) < wanted:
        raise refuse(
            f"{len(candidates)} different photos",
            f"too few for {wanted} splits, since near-duplicates stay together",
            "add photos, lower near_duplicate_distance or set the test share to 0",
        )
    middles = np.cumsum(shares) - shares / 2
    for split in np.flatnonzero(shares > 0):
        counts = np.bincount(chosen[candidates], minlength=3)
        if counts[split] == 0:
            movable = candidates[counts[chosen[candidates]] > 1]
            nearest = movable[np.argmin(abs(fractions[movable] - middles[split]))]
            chosen[nearest] = split
