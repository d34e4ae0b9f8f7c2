"""Finds photos that show nearly the same picture, by perceptual hash. It knows nothing about splits or rules."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.photos import opened_photo, upright

__all__ = ["near_duplicate_clusters", "perceptual_hash", "weaker_twins"]

_BLOCK = 1024  # rows of the distance matrix held at once


def perceptual_hash(path: Path) -> int:
    """64-bit pHash of a photo as it is seen (EXIF rotation applied).

    The photo is decoded to its end, so a broken one is found here.

    Raises:
        UserError: a photo that cannot be read.
    """
    import imagehash

    with opened_photo(path) as image:
        image.draft("L", (256, 256))  # JPEG's own downscaling; the hash looks at 32 x 32 pixels
        bits = imagehash.phash(upright(image)).hash
    return int.from_bytes(np.packbits(bits.ravel()).tobytes(), "big")


def near_duplicate_clusters(hashes: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray]:
    """Group the photos that are linked by steps of at most `distance` bits.

    Returns `cluster` (N,) int64, for each photo the smallest index in its cluster, and `nearest` (N,) int64, the number
    of bits to the most similar other photo (64 for a photo on its own).
    """
    cluster = np.arange(len(hashes))
    nearest = np.full(len(hashes), 64)
    pairs: list[np.ndarray] = []
    for start, bits in _distances(hashes):
        nearest[start : start + len(bits)] = bits.min(axis=1, initial=64)
        pairs.append(np.argwhere(bits <= distance) + np.array([start, 0]))
    if not pairs:
        return cluster, nearest
    one, other = np.concatenate(pairs).T
    while True:  # union by smallest index, then a jump to the parent's parent: few rounds, no loop over photos
        joined = cluster.copy()
        np.minimum.at(joined, one, cluster[other])
        joined = joined[joined]
        if np.array_equal(joined, cluster):
            return cluster, nearest
        cluster = joined


def weaker_twins(hashes: np.ndarray, order: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray]:
    """Which photos show what a better one shows already.

    order: indices of the photos that take part, best first. Each stays unless one that stayed is at most `distance`
    bits away, so of a chain of similar photos the ends may both stay.
    Returns `is_weaker` (N,) bool, and `bits` (N,) int64 to the nearest better photo that stayed, 64 where none did.
    """
    bits = np.full(len(hashes), 64)
    stayed = np.empty(0, dtype=hashes.dtype)
    for index in order:
        bits[index] = np.bitwise_count(stayed ^ hashes[index]).min(initial=64)
        if bits[index] > distance:
            stayed = np.append(stayed, hashes[index])
    return bits <= distance, bits


def _distances(hashes: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Hamming distances in blocks of rows; a photo is never its own neighbour."""
    for start in range(0, len(hashes), _BLOCK):
        bits = np.bitwise_count(hashes[start : start + _BLOCK, None] ^ hashes[None, :])
        bits[np.arange(len(bits)), start + np.arange(len(bits))] = 255
        yield start, bits
