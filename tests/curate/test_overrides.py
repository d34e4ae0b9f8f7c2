from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.curate.overrides import (
    VERDICTS,
    Override,
    merge_verdicts,
    read_overrides,
    verdicts_of,
    write_overrides,
)
from pipeline.errors import UserError

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=20).map(str.strip)


def _file(folder: Path, text: str) -> Path:
    path = folder / "windows.review.csv"
    path.write_bytes(text.encode())
    return path


@given(st.dictionaries(TEXT.filter(bool), st.builds(Override, st.sampled_from(VERDICTS), TEXT)))
def test_what_is_written_is_read_and_the_order_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, overrides: dict[str, Override]
) -> None:
    folder = tmp_path_factory.mktemp("overrides")
    write_overrides(folder / "a.csv", overrides)
    assert read_overrides(folder / "a.csv") == overrides
    write_overrides(folder / "b.csv", dict(reversed(overrides.items())))
    assert (folder / "a.csv").read_bytes() == (folder / "b.csv").read_bytes()


def test_file_is_plain_and_sorted(tmp_path: Path) -> None:
    path = tmp_path / "windows.review.csv"
    write_overrides(path, {"b": Override("drop"), "a": Override("keep", "odd, but right")})
    assert path.read_text() == 'image_id,verdict,note\na,keep,"odd, but right"\nb,drop,\n'


def test_no_file_means_no_verdict(tmp_path: Path) -> None:
    assert read_overrides(tmp_path / "windows.review.csv") == {}


def test_what_a_spreadsheet_saves_is_read(tmp_path: Path) -> None:
    path = _file(tmp_path, '\ufeffimage_id,verdict,note\r\n\r\na,fix,"two\r\nlines"\r\n b , drop ,\r\n,,\r\n')
    assert read_overrides(path) == {"a": Override("fix", "two\nlines"), "b": Override("drop")}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("image_id,verdict,note\na,keep,\nb,remove,\n", ("line 3", "'remove' for b", "keep, drop, fix")),
        ("image_id,verdict,note\na,keep,\nb,drop,\na,drop,\n", ("line 4", "a a second time", "keep in line 2")),
        ("image_id,verdict,note\na,keep,\na,keep,\n", ("line 3", "a second time")),
        ("image_id,verdict,note\na,keep\n", ("line 2", "2 values")),
        ("image_id,verdict,note\na,keep,odd, but right\n", ("line 2", "4 values", "quote")),
        ('image_id,verdict,note\na,keep,"x\ny"\n,drop,\n', ("line 4", "no image_id")),
        ("image_id;verdict;note\na;keep;\n", ("line 1", "image_id,verdict,note")),
        ("a,keep,\n", ("line 1", "begin with")),
        ('image_id,verdict,note\na,keep,"open\n', ("line 2", "quotes")),
        ("", ("empty file",)),
    ],
)
def test_bad_rows_are_refused_with_their_line(tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(UserError) as refused:
        read_overrides(path)
    for part in (str(path), *parts):
        assert part in str(refused.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "windows.review.csv"
    path.write_bytes(b"image_id,verdict,note\n\xff,keep,\n")
    with pytest.raises(UserError, match="UTF-8"):
        read_overrides(path)


def test_a_review_changes_what_it_showed_and_nothing_else() -> None:
    before = {
        "unseen": Override("drop", "blurred"),
        "same": Override("fix", "one missing"),
        "changed": Override("keep", "fine"),
        "taken-back": Override("drop"),
    }
    said = {"same": "fix", "changed": "drop", "new": "keep"}
    merged = merge_verdicts(before, said, shown=["same", "changed", "new", "taken-back", "untouched"])
    assert merged == {
        "unseen": Override("drop", "blurred"),
        "same": Override("fix", "one missing"),
        "changed": Override("drop"),
        "new": Override("keep"),
    }
    assert verdicts_of(merged)["unseen"] == "drop"
