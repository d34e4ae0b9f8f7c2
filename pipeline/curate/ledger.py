"""Writes why every annotation and every image is in the curated set or not. It decides nothing.

Columns of `ledger.parquet`, images first, then annotations in the order of their file:
image_id; row (line of the CSV file, null for an image); kind (image or annotation); label (the source's class, null for
an image); rule (what dropped it, or kept; see `rules.Decisions`); kept; value and threshold (what was compared; a kept
image holds the bits to its most similar photo and the distance below which photos count as near-duplicates); cluster
(smallest image id among its near-duplicates); split (null where dropped); source_sha256 (of the photo, or of the CSV
file); recipe_sha256.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.curate.readers import Annotations
from pipeline.curate.rules import Decisions
from pipeline.curated import SPLITS

__all__ = ["write_ledger"]


def write_ledger(
    path: Path,
    annotations: Annotations,
    decisions: Decisions,
    cluster: np.ndarray,
    split: np.ndarray,
    checksums: Mapping[str, str],
    recipe_sha256: str,
) -> None:
    """Write the parquet file; the same arguments give the same bytes.

    cluster, split: (images,) int64, indices into image_ids and SPLITS. checksums: SHA-256 of each file of the source,
    by its path in the source folder.
    """
    import duckdb

    ids = np.array(annotations.image_ids, dtype=object)
    splits = np.array(SPLITS, dtype=object)[split]
    splits[~decisions.images.kept] = None
    split_of_box = splits[annotations.image]
    split_of_box[~decisions.boxes.kept] = None
    images = {
        "image_id": ids,
        "rule": decisions.images.rule,
        "value": decisions.images.value,
        "threshold": decisions.images.threshold,
        "cluster": ids[cluster],
        "split": splits,
        "sha256": np.array([checksums[f"data/{photo.name}"] for photo in annotations.paths], dtype=object),
    }
    boxes = {
        "image_id": ids[annotations.image],
        "row": annotations.row,
        "label": np.array(annotations.class_names, dtype=object)[annotations.label],
        "rule": decisions.boxes.rule,
        "value": decisions.boxes.value,
        "threshold": decisions.boxes.threshold,
        "cluster": ids[cluster[annotations.image]],
        "split": split_of_box,
    }
    hashes = {"csv": checksums["labels/detections.csv"], "recipe": recipe_sha256}
    connection = duckdb.connect(config={"threads": 1})  # one thread: the order of the row groups is the order written
    try:
        _copy(connection, path, images, boxes, hashes)
    finally:
        connection.close()


def _copy(connection: Any, path: Path, images: dict, boxes: dict, hashes: dict[str, str]) -> None:
    connection.register("images", images)
    connection.register("boxes", boxes)
    numbers = "if(isnan(value), NULL, value) AS value, if(isnan(threshold), NULL, threshold) AS threshold"
    connection.execute(
        f"""
        CREATE TABLE ledger AS
        SELECT image_id, NULL::BIGINT AS row, 'image' AS kind, NULL::VARCHAR AS label, rule, rule = 'kept' AS kept,
               {numbers}, "cluster", "split"::VARCHAR AS "split", sha256 AS source_sha256, $recipe AS recipe_sha256
        FROM images
        UNION ALL
        SELECT image_id, row::BIGINT, 'annotation', label, rule, rule = 'kept',
               {numbers}, "cluster", "split"::VARCHAR, $csv, $recipe
        FROM boxes
        """,
        hashes,
    )
    target = str(path).replace("'", "''")
    connection.execute(
        "COPY (SELECT * FROM ledger ORDER BY kind = 'annotation', row, image_id) "
        f"TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
    )
