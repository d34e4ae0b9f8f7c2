"""Finds photos that show nearly the same picture, by perceptual hash. It knows nothing about splits or rules."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pipeline.curated import opened_photo

__all__ = ["near_duplicate_clusters", "perceptual_hashes"]

_BLOCK = 1024  # rows of the distance matrix held at once


def perceptual_hashes(paths: Sequence[Path], progress: Callable[[int], None] | None = None) -> np.ndarray:
    """64-bit pHash of every photo as it is seen (EXIF rotation applied): (N,) uint64.

    Every photo is decoded to its end, so a broken one is found here. `progress` is called with the number done.
    """
    hashes = np.empty(len(paths), dtype=np.uint64)
    with ThreadPoolExecutor() as pool:
        for index, value in enumerate(pool.map(_hash, paths)):
            hashes[index] = value
            if progress:
                progress(index + 1)
    return hashes


def _hash(path: Path) -> int:
    import imagehash
    from PIL import ImageOps

    with opened_photo(path) as image:
        image.draft("L", (256, 256))  # JPEG's own downscaling; the hash looks at 32 x 32 pixels
        bits = imagehash.phash(ImageOps.exif_transpose(image)).hash
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


def _distances(hashes: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Hamming distances in blocks of rows; a photo is never its own neighbour."""
    for start in range(0, len(hashes), _BLOCK):
        bits = np.bitwise_count(hashes[start : start + _BLOCK, None] ^ hashes[None, :])
        bits[np.arange(len(bits)), start + np.arange(len(bits))] = 255
        yield start, bits
