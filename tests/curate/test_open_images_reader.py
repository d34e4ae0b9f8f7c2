import shutil
from pathlib import Path

import numpy as np
import pytest
from drawn_source import CLASSES, HEADER, draw_source, row

from pipeline.curate.annotations import FLAGS
from pipeline.curate.readers.open_images import read_open_images
from pipeline.errors import UserError

GOOD = [row("a"), row("b", "Door"), row("a", "Arch", (0, 0, 1, 1), IsInside=-1, IsGroupOf=1)]


def test_boxes_flags_classes_and_rows_are_read_as_they_are(tmp_path: Path) -> None:
    found = read_open_images(draw_source(tmp_path / "source", GOOD))
    assert found.image_ids == ("a", "b")
    assert found.class_names == CLASSES
    assert found.row.tolist() == [2, 3, 4]
    assert found.image.tolist() == [0, 1, 0]
    assert found.label.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(found.boxes[[0, 2]], [[0.1, 0.2, 0.5, 0.8], [0, 0, 1, 1]])
    assert found.flags[2].tolist() == [-1, 0, 1, 0, -1]


def test_rows_keep_the_order_of_a_long_file(tmp_path: Path) -> None:
    count = 300_000
    source = draw_source(tmp_path / "source", [row("a", box=(0, 0, 1, i / count)) for i in range(1, count + 1)])
    found = read_open_images(source)
    np.testing.assert_allclose(found.boxes[:, 3], np.arange(1, count + 1) / count)
    np.testing.assert_array_equal(found.row, np.arange(2, count + 2))


def test_further_columns_windows_line_ends_and_byte_order_mark_are_read(tmp_path: Path) -> None:
    source = draw_source(tmp_path / "source", GOOD)
    lines = ["\ufeff" + HEADER + ",XClick1X", *(line + ",0.5" for line in GOOD)]
    (source / "labels" / "detections.csv").write_bytes("\r\n".join([*lines, "", ""]).encode())
    assert read_open_images(source).row.tolist() == [2, 3, 4]


BAD_ROWS = {
    "five words": ("a,xclick,/x/window,1,0.5", ["5 values"]),
    "lone quote": (row("a").replace("xclick", '"xclick').replace(",1,", ",x,", 1), ["Confidence is x"]),
    "too many": (row("a") + ",0", ["14 values"]),
    "no number": (row("a").replace("0.1", "left"), ["XMin is left", "number"]),
    "nothing": (row("a").replace("0.1", ""), ["XMin is empty", "number"]),
    "nan": (row("a").replace("0.1", "NaN"), ["XMin is NaN", "number"]),
    "infinite": (row("a").replace("0.1", "inf"), ["XMin is inf", "0 to 1"]),
    "left of right": (row("a", box=(0.6, 0.2, 0.5, 0.8)), ["XMin is 0.6", "XMax"]),
    "below": (row("a", box=(0.1, 0.9, 0.5, 0.8)), ["YMin is 0.9", "YMax"]),
    "outside": (row("a", box=(0.1, 0.2, 1.5, 0.8)), ["XMax is 1.5", "0 to 1"]),
    "negative": (row("a", box=(0.1, -0.2, 0.5, 0.8)), ["YMin is -0.2", "0 to 1"]),
    "flag 2": (row("a", IsGroupOf=2), ["IsGroupOf is 2", "1, 0 and -1"]),
    "flag a half": (row("a").removesuffix(",0") + ",0.5", ["IsInside is 0.5", "1, 0 and -1"]),
    "class": (row("a", "Roof"), ["LabelName is /x/roof", "classes.csv"]),
    "photo": (row("c"), ["ImageID is c", "no such photo"]),
    "quote": ('"a' + row("a"), []),
}


@pytest.mark.parametrize(("line", "words"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_bad_row_is_refused_with_its_line_number(tmp_path: Path, line: str, words: list[str]) -> None:
    source = draw_source(tmp_path / "source", [*GOOD, line, row("b")], photos=["a", "b"])
    with pytest.raises(UserError) as caught:
        read_open_images(source)
    message = str(caught.value)
    assert "\n" not in message
    for word in ["detections.csv line 5", *words]:
        assert word in message


def _without(column: str) -> str:
    return "\n".join([HEADER.replace(f"{column},", ""), "a"]) + "\n"


BAD_FILES = {
    "missing column": (_without("YMin"), ["line 1", "no column YMin"]),
    "header only": (HEADER + "\n", ["no boxes"]),
    "empty": ("", ["line 1", "no column ImageID"]),
    "blank line": ("\n".join([HEADER, row("a"), "", row("b")]), ["blank line"]),
    "truncated": ("\n".join([HEADER, row("a"), row("b")[:-7]]), ["line 3", "10 values"]),
}


@pytest.mark.parametrize(("text", "words"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_csv_file_is_refused(tmp_path: Path, text: str, words: list[str]) -> None:
    source = draw_source(tmp_path / "source", GOOD)
    (source / "labels" / "detections.csv").write_text(text)
    with pytest.raises(UserError) as caught:
        read_open_images(source)
    message = str(caught.value)
    assert "\n" not in message
    for word in ["detections.csv", *words]:
        assert word in message


def test_folder_that_is_missing_empty_or_incomplete_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        read_open_images(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty folder"):
        read_open_images(tmp_path / "empty")
    for part, words in [("data", "no photos"), ("labels", "no such file"), ("metadata", "no such file")]:
        source = draw_source(tmp_path / part, GOOD)
        shutil.rmtree(source / part)
        with pytest.raises(UserError, match=words):
            read_open_images(source)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no classes"),
        ("/x/window\n", "line 1: 1 values"),
        ("/a,A\n/b,A\n", "line 2: name 'A' a second time"),
        ("/a,\0\n", "zero byte"),
    ],
)
def test_bad_class_list_is_refused(tmp_path: Path, text: str, words: str) -> None:
    source = draw_source(tmp_path / "source", GOOD)
    (source / "metadata" / "classes.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        read_open_images(source)


def test_signs_of_patterns_windows_line_ends_and_a_folder_that_looks_like_a_photo(tmp_path: Path) -> None:
    source = draw_source(tmp_path / "a[b]*?", GOOD)
    (source / "data" / "folder.jpg").mkdir()
    csv_file = source / "labels" / "detections.csv"
    csv_file.write_bytes(csv_file.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\n")
    found = read_open_images(source)
    assert len(found.row) == len(GOOD)
    (source / "metadata" / "classes.csv").unlink()
    (source / "metadata" / "classes.csv").mkdir()
    with pytest.raises(UserError, match=r"classes\.csv: no such file"):
        read_open_images(source)


def test_unknown_flags_of_the_facades_stay_unknown(facades: Path) -> None:
    found = read_open_images(facades)
    assert len(found.row) == 7026
    assert len(found.image_ids) == 576
    assert set(found.flags[:, FLAGS.index("IsOccluded")].tolist()) == {-1}
