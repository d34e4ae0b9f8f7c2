"""Reads a folder in the Open Images layout into arrays, and refuses what is malformed. It decides nothing.

Layout: `data/<ImageID>.jpg`, `labels/detections.csv` with the official columns, `metadata/classes.csv` with a label and
its display name per line. The three-valued flags stay three-valued: 1 yes, 0 no, -1 nobody looked.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.curate.annotations import FLAGS, Annotations
from pipeline.errors import UserError, refuse

__all__ = ["read_open_images"]

COLUMNS = ("ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax", *FLAGS)
_NUMBERS = ("Confidence", "XMin", "XMax", "YMin", "YMax")


def read_open_images(folder: Path) -> Annotations:
    """Read the images, classes and boxes of `folder`.

    >>> read_open_images(Path("facades")).boxes.shape
    (7026, 4)
    """
    if not folder.is_dir():
        raise refuse(folder, "no such folder", "give a folder with data/, labels/ and metadata/")
    if not any(folder.iterdir()):
        raise refuse(folder, "empty folder", "give a folder with data/, labels/ and metadata/")
    paths = tuple(sorted((folder / "data").glob("*.jpg"), key=lambda path: path.stem))
    if not paths:
        raise refuse(folder / "data", "no photos", "put the photos there as <ImageID>.jpg")
    image_ids = tuple(path.stem for path in paths)
    boxes_file, classes_file = folder / "labels" / "detections.csv", folder / "metadata" / "classes.csv"
    labels, class_names = _read_classes(classes_file)
    columns = _read_boxes(boxes_file, image_ids, labels)
    return Annotations(
        image_ids=image_ids,
        paths=paths,
        sizes=np.full((len(paths), 2), np.nan),
        class_names=class_names,
        files=(boxes_file, classes_file),
        file=np.zeros(len(columns["row"]), dtype=np.int64),
        row=columns["row"],
        image=columns["image"],
        label=columns["label"],
        boxes=np.stack([columns[name] for name in ("XMin", "YMin", "XMax", "YMax")], axis=1),
        flags=np.stack([columns[name] for name in FLAGS], axis=1),
        annotator=columns["Source"].astype(object),
        confidence=columns["Confidence"],
        fetch={},
    )


def _read_classes(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Labels such as /m/0d4v4 and their display names."""
    text = _text(path, "list a label and its display name per line, as in /m/0d4v4,Window")
    rows = [(number, row) for number, row in enumerate(csv.reader(text.splitlines()), start=1) if row]
    rows = [(number, row) for number, row in rows if row != ["LabelName", "DisplayName"]]
    for number, row in rows:
        if len(row) != 2:
            raise refuse(f"{path} line {number}", f"{len(row)} values", "give a label and its display name")
    if not rows:
        raise refuse(path, "no classes", "list a label and its display name per line, as in /m/0d4v4,Window")
    for column, what in enumerate(("label", "name")):
        seen: set[str] = set()
        for number, row in rows:
            if row[column] in seen:
                raise refuse(f"{path} line {number}", f"{what} {row[column]!r} a second time", "give each class once")
            seen.add(row[column])
    return tuple(row[0] for _, row in rows), tuple(row[1] for _, row in rows)


def _text(path: Path, remedy: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise refuse(path, "no such file", remedy) from None
    except UnicodeDecodeError:
        raise refuse(path, "not UTF-8 text", "save it as UTF-8") from None


def _read_boxes(path: Path, image_ids: Sequence[str], labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Every column that counts as an array, in the order of the file, after every value has been checked."""
    import duckdb

    header = _read_header(path)
    connection = duckdb.connect()
    try:
        _load_text(connection, path, header)
        images = {"id": np.array(image_ids, dtype=object), "image": np.arange(len(image_ids))}
        classes = {"id": np.array(labels, dtype=object), "label": np.arange(len(labels))}
        connection.register("images", images)
        connection.register("classes", classes)
        numbers = ", ".join(f"TRY_CAST({name} AS DOUBLE) AS {name}" for name in _NUMBERS)
        flags = ", ".join(f"CASE WHEN {name} IN ('1', '0', '-1') THEN {name}::TINYINT END AS {name}" for name in FLAGS)
        connection.execute(
            f"CREATE TABLE boxes AS SELECT row, Source, images.image, classes.label, {numbers}, {flags} FROM lines "
            "LEFT JOIN images ON images.id = ImageID LEFT JOIN classes ON classes.id = LabelName"
        )
        _refuse_bad_value(connection, path)
        columns = connection.execute("SELECT * FROM boxes ORDER BY row").fetchnumpy()
        return {name: np.ma.getdata(values) for name, values in columns.items()}
    except duckdb.Error as error:
        raise _one_line(path, error) from None
    finally:
        connection.close()


def _read_header(path: Path) -> list[str]:
    if not path.is_file():
        raise refuse(path, "no such file", "put the boxes there in the official Open Images columns")
    with path.open("rb") as file:
        header = file.readline().decode("utf-8-sig", errors="replace").strip().split(",")
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise refuse(f"{path} line 1", f"no column {', '.join(missing)}", f"the columns are {','.join(COLUMNS)}")
    if len(set(header)) < len(header):
        raise refuse(f"{path} line 1", "a column name twice", f"the columns are {','.join(COLUMNS)}")
    return header


def _load_text(connection: Any, path: Path, header: list[str]) -> None:
    """Table `lines`: every value as text with the line number it came from; a row of another length is refused."""
    columns = dict.fromkeys(header, "VARCHAR")
    connection.execute(
        "CREATE TABLE lines AS SELECT row_number() OVER () + 1 AS row, * FROM read_csv(?, auto_detect=false, "
        "header=true, delim=',', quote='\"', escape='\"', columns=?, store_rejects=true)",
        [str(path), columns],
    )
    rejected = connection.execute("SELECT line, error_message FROM reject_errors ORDER BY line LIMIT 1").fetchall()
    for line, reason in rejected:
        message = reason.replace("Expected Number of Columns:", "expected columns").replace("Found:", "found")
        raise refuse(f"{path} line {line}", message.strip(" ."), f"give {len(header)} values separated by commas")
    ((rows,),) = connection.execute("SELECT count(*) FROM lines").fetchall()
    if not rows:
        raise refuse(path, "no boxes", "give one row per box below the header")
    if rows + 1 != _count_lines(path):  # DuckDB skips blank lines, and every later line number would be wrong
        raise refuse(path, "a blank line or a line break inside a value", "give one box per line")


def _count_lines(path: Path) -> int:
    """Lines of the file, blank ones at its end not counted."""
    count, tail = 0, b""
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            count += block.count(b"\n")
            tail = (tail + block)[-64:]
    blank = tail[len(tail.rstrip(b"\r\n")) :].count(b"\n")
    return count - blank + 1


def _refuse_bad_value(connection: Any, path: Path) -> None:
    """Refuse the first row that holds a value outside what the format allows."""
    checks = [
        *((name, f"{name} IS NULL OR isnan({name})", "give a number") for name in _NUMBERS),
        *((name, f"{name} NOT BETWEEN 0 AND 1", "give a fraction from 0 to 1") for name in _NUMBERS),
        ("XMin", "XMin > XMax", "it must not exceed XMax"),
        ("YMin", "YMin > YMax", "it must not exceed YMax"),
        *((name, f"{name} IS NULL", "allowed are 1, 0 and -1") for name in FLAGS),
        ("LabelName", "label IS NULL", "add it to metadata/classes.csv or correct it"),
        ("ImageID", "image IS NULL", "there is no such photo in data/: add it or remove the row"),
    ]
    cases = " ".join(f"WHEN {test} THEN {index}" for index, (_, test, _) in enumerate(checks))
    bad = connection.execute(
        f"SELECT row, CASE {cases} END AS problem FROM boxes WHERE problem IS NOT NULL ORDER BY row LIMIT 1"
    ).fetchall()
    for row, problem in bad:
        name, _, remedy = checks[problem]
        ((value,),) = connection.execute(f"SELECT {name} FROM lines WHERE row = ?", [row]).fetchall()
        raise refuse(f"{path} line {row}", f"{name} is {value or 'empty'}", remedy)


def _one_line(path: Path, error: Exception) -> UserError:
    """DuckDB's messages are paragraphs; their first line says what is wrong."""
    first = str(error).strip().splitlines()[0]
    return refuse(path, first.partition("Error: ")[2] or first, "give a CSV file with one box per line")
