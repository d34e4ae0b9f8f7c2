"""Reads box files in the official Open Images columns with DuckDB: streaming, every value checked. It knows no folders.

Flags stay three-valued: 1 yes, 0 no, -1 nobody looked. Every box keeps the number of its line.
"""

import csv
import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.curate.annotations import FLAGS
from pipeline.errors import UserError, refuse

__all__ = ["read_boxes", "read_classes"]

_COLUMNS = ("ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax", *FLAGS)
_NUMBERS = ("Confidence", "XMin", "XMax", "YMin", "YMax")
_ROUNDING = 1e-3  # of the photo: what a coordinate may lie beyond its edge, where it is put
_MEMORY = "700MB"  # of DuckDB; the official training boxes need less than half of it


def read_classes(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Labels such as /m/0d4v4 and their display names, a pair per line, with or without a header.

    Raises:
        UserError: no classes, a line that is no pair, or a label or a name a second time.
    """
    remedy = "list a label and its display name per line, as in /m/0d4v4,Window"
    rows = [
        (number, row) for number, row in enumerate(csv.reader(_read_text(path, remedy).splitlines()), start=1) if row
    ]
    rows = [(number, row) for number, row in rows if row != ["LabelName", "DisplayName"]]
    for number, row in rows:
        if len(row) != 2:
            raise refuse(f"{path} line {number}", f"{len(row)} values", "give a label and its display name")
    if not rows:
        raise refuse(path, "no classes", remedy)
    for column, what in enumerate(("label", "name")):
        seen: set[str] = set()
        for number, row in rows:
            if row[column] in seen:
                raise refuse(f"{path} line {number}", f"{what} {row[column]!r} a second time", "give each class once")
            seen.add(row[column])
    return tuple(row[0] for _, row in rows), tuple(row[1] for _, row in rows)


def _read_text(path: Path, remedy: str) -> str:
    """Content of a text file; what is no text is refused."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise refuse(path, "no such file", remedy) from None
    except UnicodeDecodeError:
        raise refuse(path, "not UTF-8 text", "save it as UTF-8") from None
    if "\0" in text:
        raise refuse(path, "a zero byte", "save it as text")
    return text


def read_boxes(
    path: Path, labels: Sequence[str], only: Sequence[str] | None = None, image_ids: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """The boxes of a file in its order, as arrays (N,) by column, with `row`, the number of the line.

    labels: of all classes; `label` is the index of a box's. only: labels of the boxes that are wanted; the values of no
    other row are looked at. image_ids: of all photos; `image` is the index of a box's, and a box on another is refused.
    Where they are not given, the column ImageID comes as it is.

    Raises:
        UserError: no such file, no such column, no boxes, or the line and value that is wrong.
    """
    import duckdb

    header = _read_header(path)
    connection = duckdb.connect(config={"memory_limit": _MEMORY})
    try:
        _load_text(connection, path, header, only)
        classes = {"id": np.array(labels, dtype=object), "label": np.arange(len(labels))}
        connection.register("classes", classes)
        if image_ids is None:
            connection.execute("CREATE TABLE images AS SELECT DISTINCT ImageID AS id, 0 AS image FROM lines")
        else:
            connection.register("images", {"id": np.array(image_ids, dtype=object), "image": np.arange(len(image_ids))})
        connection.execute(
            f"CREATE TABLE boxes AS SELECT row, Source, images.image, classes.label, {_casts()} FROM lines "
            "LEFT JOIN images ON images.id = ImageID LEFT JOIN classes ON classes.id = LabelName"
        )
        _refuse_bad_value(connection, path)
        columns = connection.execute(
            "SELECT boxes.*, ImageID FROM boxes JOIN lines USING (row) ORDER BY row"
        ).fetchnumpy()
        return {name: np.ma.getdata(values) for name, values in columns.items()}
    except duckdb.Error as error:
        raise _one_line(path, error) from None
    finally:
        connection.close()


def _casts() -> str:
    """The values as numbers, null where they are none; coordinates that rounding put over the edge are put on it."""
    parts = []
    for name in _NUMBERS:
        number = f"TRY_CAST({name} AS DOUBLE)"
        inside = f"CASE WHEN {number} BETWEEN {-_ROUNDING} AND {1 + _ROUNDING} THEN least(greatest({number}, 0), 1)"
        parts.append(f"{inside} ELSE {number} END AS {name}")
    parts += [f"CASE WHEN {name} IN ('1', '0', '-1') THEN {name}::TINYINT END AS {name}" for name in FLAGS]
    return ", ".join(parts)


def _read_header(path: Path) -> list[str]:
    if not path.is_file():
        raise refuse(path, "no such file", "put the boxes there in the official Open Images columns")
    with path.open("rb") as file:
        header = file.readline().decode("utf-8-sig", errors="replace").strip().split(",")
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise refuse(f"{path} line 1", f"no column {', '.join(missing)}", f"the columns are {','.join(_COLUMNS)}")
    if len(set(header)) < len(header):
        raise refuse(f"{path} line 1", "a column name twice", f"the columns are {','.join(_COLUMNS)}")
    return header


def _load_text(connection: Any, path: Path, header: list[str], only: Sequence[str] | None) -> None:
    """Table `lines`: values as text with the line number they came from; a row of another length is refused.

    One pass over the file, by whole lines: only those that hold a wanted label are taken apart, which is twice as fast
    as taking apart all. Quotes mean nothing, so that a lone one cannot swallow lines.
    """
    wanted = "" if only is None else "WHERE " + " OR ".join(f"contains(line, {_quoted(f',{one},')})" for one in only)
    connection.execute(
        "CREATE TABLE whole AS SELECT row, string_split(rtrim(line, chr(13)), ',') AS parts FROM ("
        "SELECT row_number() OVER () + 1 AS row, coalesce(line, '') AS line FROM read_csv(?, auto_detect=false, "
        "header=false, skip=1, delim=chr(1), quote='', escape='', strict_mode=false, columns={'line': 'VARCHAR'})) "
        + wanted,
        [glob.escape(str(path))],
    )
    ((rows, last),) = connection.execute("SELECT count(*), max(row) FROM whole WHERE parts <> ['']").fetchall()
    if only is None and not rows:
        raise refuse(path, "no boxes", "give one row per box below the header")
    wrong = "SELECT row, parts FROM whole WHERE len(parts) <> ? AND row <= ? ORDER BY row LIMIT 1"
    for row, parts in connection.execute(wrong, [len(header), last or 0]).fetchall():
        found = "a blank line" if parts == [""] else f"{len(parts)} values"
        raise refuse(f"{path} line {row}", found, f"give {len(header)} values separated by commas, as the header has")
    values = ", ".join(f"parts[{header.index(name) + 1}] AS {name}" for name in _COLUMNS)
    labels = "" if only is None else f" AND LabelName IN ({', '.join(map(_quoted, only))})"
    connection.execute(f"CREATE TABLE lines AS SELECT row, {values} FROM whole WHERE row <= ?{labels}", [last or 0])
    connection.execute("DROP TABLE whole")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


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
