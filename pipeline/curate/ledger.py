"""Writes and reads why every annotation and every image is in the curated set or not. It decides nothing.

Columns of `ledger.parquet`, images first, then annotations in the order of their files:
image_id; file (name of the annotation file) and row (its line, or place in its list, from 1), null for an image; kind
(image or annotation); label (the source's class, null for an image); rule (what dropped it, or kept; see `rules` and
`examine`); kept; value and threshold (what was compared); override (keep, drop or fix, as a person said, null for
none); overruled (the first rule that would have dropped what a person keeps); strain (how near the image came to the
limit nearest to it, 1 being at the limit); cluster (smallest image id among the photos that show nearly the same);
similar_bits (to the most similar other photo, of 64); split (null where dropped); annotator and confidence, as the
source gives them, null for an image; a column per score, null where nothing was measured; source_sha256 (of the photo,
null where it was never fetched, or of the annotation file); recipe_sha256.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.curate.examine import Examination
from pipeline.curated import SPLITS
from pipeline.errors import refuse

__all__ = ["explain", "write_ledger"]

_ABOUT = ("image_id", "file", "row", "kind", "label", "rule", "kept", "value", "threshold")
_MORE = ("override", "overruled", "strain", "cluster", "similar_bits", "split", "annotator", "confidence")
_FIXED = _ABOUT + _MORE
_ALIKE = 10  # bits of 64: from here on a similar photo is worth a line
_NUMBERS = ("value", "threshold", "strain", "confidence")


def write_ledger(path: Path, examined: Examination, files_sha256: Mapping[Path, str], recipe_sha256: str) -> None:
    """Write the parquet file; the same arguments give the same bytes. files_sha256: of every annotation file."""
    import duckdb

    tables = {"images": _images(examined), "boxes": _boxes(examined, files_sha256)}
    scores = sorted({*examined.scores, *examined.box_scores})
    connection = duckdb.connect(config={"threads": 1})  # one thread: the order of the row groups is the order written
    try:
        for name, table in tables.items():
            connection.register(name, table)
        rows = " UNION ALL ".join(
            f"SELECT {_columns(table, scores, place)} FROM {name}" for place, (name, table) in enumerate(tables.items())
        )
        target = str(path).replace("'", "''")
        connection.execute(f"CREATE TABLE ledger AS {rows}")
        connection.execute(
            "COPY (SELECT * EXCLUDE (place, number), $recipe AS recipe_sha256 FROM ledger ORDER BY place, number) "
            f"TO '{target}' (FORMAT parquet, COMPRESSION zstd)",
            {"recipe": recipe_sha256},
        )
    finally:
        connection.close()


def _columns(table: Mapping[str, np.ndarray], scores: list[str], place: int) -> str:
    """The select list of one table: what it lacks is null, and so is NaN."""
    types = {"row": "BIGINT", "kept": "BOOLEAN", "similar_bits": "BIGINT"}
    parts = [f"{place} AS place", "number"]
    for name in (*_FIXED, *scores, "source_sha256"):
        kind = types.get(name, "DOUBLE" if name in _NUMBERS or name in scores else "VARCHAR")
        if name not in table:
            parts.append(f'NULL::{kind} AS "{name}"')
        elif kind == "DOUBLE":
            parts.append(f'if(isnan("{name}"), NULL, "{name}") AS "{name}"')
        elif kind == "VARCHAR":
            parts.append(f'nullif("{name}"::VARCHAR, \'\') AS "{name}"')
        else:
            parts.append(f'"{name}"::{kind} AS "{name}"')
    return ", ".join(parts)


def _images(examined: Examination) -> dict[str, np.ndarray]:
    decisions = examined.decisions
    ids = np.array(decisions.annotations.image_ids, dtype=object)
    return {
        "number": np.arange(len(ids)),
        "image_id": ids,
        "kind": np.full(len(ids), "image", dtype=object),
        "rule": decisions.images.rule,
        "kept": decisions.images.kept,
        "value": decisions.images.value,
        "threshold": decisions.images.threshold,
        "override": decisions.overrides,
        "overruled": decisions.images.overruled,
        "strain": decisions.strain,
        "cluster": ids[examined.cluster],
        "similar_bits": examined.nearest,
        "split": _splits(examined),
        "source_sha256": examined.sha256,
        **examined.scores,
    }


def _boxes(examined: Examination, files_sha256: Mapping[Path, str]) -> dict[str, np.ndarray]:
    decisions, annotations = examined.decisions, examined.decisions.annotations
    splits = _splits(examined)[annotations.image]
    splits[~decisions.boxes.kept] = ""
    names = np.array([path.name for path in annotations.files], dtype=object)
    hashes = np.array([files_sha256[path] for path in annotations.files], dtype=object)
    ids = np.array(annotations.image_ids, dtype=object)
    return {
        "number": np.arange(len(annotations.row)),
        "image_id": ids[annotations.image],
        "file": names[annotations.file],
        "row": annotations.row,
        "kind": np.full(len(annotations.row), "annotation", dtype=object),
        "label": np.array(annotations.class_names, dtype=object)[annotations.label],
        "rule": decisions.boxes.rule,
        "kept": decisions.boxes.kept,
        "value": decisions.boxes.value,
        "threshold": decisions.boxes.threshold,
        "cluster": ids[examined.cluster[annotations.image]],
        "split": splits,
        "annotator": annotations.annotator,
        "confidence": annotations.confidence,
        "source_sha256": hashes[annotations.file],
        **examined.box_scores,
    }


def _splits(examined: Examination) -> np.ndarray:
    splits = np.array(SPLITS, dtype=object)[examined.split]
    splits[~examined.decisions.images.kept] = ""
    return splits


def explain(root: Path, image_id: str) -> str:
    """The story of one image of the set at `root`: what happened to it and to each of its boxes, and every score.

    Raises:
        UserError: no ledger there, one of another version, or no such image in it.
    """
    import duckdb

    path = root / "ledger.parquet"
    if not path.is_file():
        raise refuse(root, "no ledger.parquet", "curate the set first")
    with duckdb.connect() as connection:
        try:
            found = connection.execute("SELECT * FROM read_parquet(?) WHERE image_id = ?", [str(path), image_id])
            names = [column[0] for column in found.description or ()]
            rows = [dict(zip(names, values, strict=True)) for values in found.fetchall()]
        except duckdb.Error:
            raise refuse(path, "not a ledger that curating writes", "curate the set again") from None
    if not rows:
        raise refuse(root, f"no image {image_id!r} in its ledger", "give an id as the ledger's column image_id has it")
    image, boxes = rows[0], rows[1:]
    lines = [f"{image_id}: {_verdict(image)}"]
    if image.get("override"):
        instead = f"; {image['overruled']} would have dropped it" if image.get("overruled") else ""
        lines.append(f"  a person said {image['override']}{instead}")
    bits = image.get("similar_bits")
    if image.get("cluster") not in (None, image_id) or (bits is not None and bits <= _ALIKE):
        lines.append(f"  like {image['cluster']}: the most similar other photo differs in {bits} bits")
    lines += _scores(image, "  ")
    for box in boxes:
        lines.append(f"  {box['label']}, {box['file']} line {box['row']}: {_verdict(box)}")
        lines += _scores(box, "    ")
    return "\n".join(lines)


def _verdict(row: Mapping[str, Any]) -> str:
    if row["kept"]:
        return f"kept, in {row['split']}" if row.get("split") else "kept"
    numbers = [f"{name} {row[name]:.4g}" for name in ("value", "threshold") if row[name] is not None]
    return f"dropped by {row['rule']}" + (f" ({', '.join(numbers)})" if numbers else "")


def _scores(row: Mapping[str, Any], indent: str) -> list[str]:
    """One line with every score that was measured."""
    known = {
        name: value
        for name, value in row.items()
        if name not in _FIXED and isinstance(value, float) and math.isfinite(value)
    }
    return [indent + ", ".join(f"{name} {value:.3g}" for name, value in known.items())] if known else []
