"""The settings of a drone: what is written is read, and what is wrong is named in one line."""

import configparser
from pathlib import Path
from typing import Any, NamedTuple, Optional, Tuple, get_type_hints  # noqa: UP035  # the types that deploy/ uses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.errors import UserError, refuse
from deploy.settings import read_settings, settings_text


class CameraSettings(NamedTuple):
    """A camera.

    rate: frames per second, more than 0.
    """

    name: str = "csi"
    rate: float = 30.0
    buffers: int = 2
    is_flipped: bool = False
    limit: Optional[int] = None  # noqa: UP045
    gain: Optional[float] = 1.5  # noqa: UP045
    kinds: Tuple[str, ...] = ("a", "b")  # noqa: UP006

    def check(self) -> None:
        if self.rate <= 0:
            raise refuse(f"rate={self.rate:g}", "is out of range", "give more than 0")


class LinkSettings(NamedTuple):
    """A link."""

    port: str = ""


SECTIONS: dict[str, Any] = {"camera": CameraSettings, "link": LinkSettings}

# What an INI file can hold in one line: no comment, no line end, no blanks at its ends.
_WORDS = st.text(st.characters(categories=["L", "N"], include_characters="/:._-= %$!"), max_size=30).map(str.strip)
_TEXTS = _WORDS.filter(lambda text: text.lower() != "none")
_NAMES = st.text("abcxyz0123_", min_size=1, max_size=8)


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _line(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value)
    return "none" if value is None else str(value)


@given(
    st.builds(
        CameraSettings,
        name=_TEXTS,
        rate=st.floats(1e-6, 1e6),
        buffers=st.integers(-(10**12), 10**12),
        is_flipped=st.booleans(),
        limit=st.none() | st.integers(-(10**9), 10**9),
        gain=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        kinds=st.lists(_NAMES, max_size=4).map(tuple),
    )
)
def test_what_is_written_is_read(tmp_path_factory, settings):
    lines = [f"{key} = {_line(value)}" for key, value in settings._asdict().items()]
    path = _write(tmp_path_factory.mktemp("ini") / "a.ini", "[camera]\n" + "\n".join(lines) + "\n")
    assert read_settings(path, SECTIONS) == {"camera": settings, "link": LinkSettings()}


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("ini") / "a.ini"
    path.write_bytes(data)
    try:
        read_settings(path, SECTIONS)
    except UserError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
        assert str(path) in str(error)  # noqa: PT017


@given(st.sampled_from(sorted(CameraSettings._fields)), _WORDS)
def test_any_value_is_taken_or_refused_with_its_place(tmp_path_factory, key, text):
    path = _write(tmp_path_factory.mktemp("ini") / "a.ini", f"[camera]\n{key} = {text}\n")
    try:
        found = read_settings(path, SECTIONS)["camera"]
    except UserError as error:
        assert f"[camera] {key}={text}" in str(error) or f"[camera] {key}=" in str(error)  # noqa: PT017
    else:
        assert isinstance(found, CameraSettings)
        assert get_type_hints(CameraSettings)[key] is not float or isinstance(getattr(found, key), float)


def test_without_a_file_everything_has_its_default():
    assert read_settings(None, SECTIONS) == {"camera": CameraSettings(), "link": LinkSettings()}


def test_comments_empty_lines_and_blanks_do_not_matter(tmp_path):
    path = _write(tmp_path / "a.ini", "# a\n\n[link]\n\n  # b\nport =  /dev/ttyTHS2   # the autopilot's\n[camera]\n")
    assert read_settings(path, SECTIONS)["link"].port == "/dev/ttyTHS2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[cameras]\nrate = 3\n", "{path}: [cameras]: unknown section; allowed: camera, link"),
        ("[camera]\nrates = 3\n", "{path}: [camera] rates: unknown key; allowed: name, rate, buffers, is_flipped"),
        ("[camera]\nRate = 3\n", "{path}: [camera] Rate: unknown key; allowed: name, rate"),
        ("[camera]\nrate = fast\n", "{path}: [camera] rate=fast: cannot be taken; write a number"),
        ("[camera]\nrate = nan\n", "{path}: [camera] rate=nan: cannot be taken; write a finite number"),
        ("[camera]\nrate = -inf\n", "{path}: [camera] rate=-inf: cannot be taken; write a finite number"),
        ("[camera]\nrate = none\n", "{path}: [camera] rate=none: cannot be taken; write a number"),
        ("[camera]\nrate = 0\n", "{path}: [camera] rate=0: is out of range; give more than 0"),
        ("[camera]\nbuffers = 2.5\n", "{path}: [camera] buffers=2.5: cannot be taken; write a whole number"),
        ("[camera]\nlimit = x\n", "{path}: [camera] limit=x: cannot be taken; write a whole number"),
        ("[camera]\nis_flipped = maybe\n", "{path}: [camera] is_flipped=maybe: cannot be taken; write yes or no"),
        ("[DEFAULT]\nrate = 3\n", "{path}: [DEFAULT]: unknown section; put each key into its own section"),
        ("rate = 3\n", "{path}: File contains no section headers."),
        ("[camera]\nrate\n", "{path}: Source contains parsing errors"),
        ("[camera]\nrate = 1\nrate = 2\n", "already exists"),
        ("[camera]\n[camera]\n", "already exists"),
    ],
)
def test_mistake_is_named_with_its_place(tmp_path, text, message):
    path = _write(tmp_path / "a.ini", text)
    with pytest.raises(UserError) as caught:
        read_settings(path, SECTIONS)
    assert message.format(path=path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(UserError, match="No such file or directory; give a settings file"):
        read_settings(tmp_path / "a.ini", SECTIONS)
    with pytest.raises(UserError, match="Is a directory"):
        read_settings(tmp_path, SECTIONS)
    (tmp_path / "b.ini").write_bytes(b"[camera]\nname = \xff\n")
    with pytest.raises(UserError, match="is no text"):
        read_settings(tmp_path / "b.ini", SECTIONS)


@pytest.mark.parametrize("word", ["yes", "Yes", "true", "ON", "1"])
def test_words_for_yes(tmp_path, word):
    path = _write(tmp_path / "a.ini", f"[camera]\nis_flipped = {word}\n")
    assert read_settings(path, SECTIONS)["camera"].is_flipped is True


def test_default_file_says_every_key_and_changes_nothing(tmp_path):
    text = settings_text(SECTIONS)
    path = _write(tmp_path / "a.ini", text)
    assert read_settings(path, SECTIONS) == read_settings(None, SECTIONS)
    assert "# rate: frames per second, more than 0." in text
    parser = configparser.ConfigParser(interpolation=None)
    uncommented = [line[2:] if " = " in line else line for line in text.splitlines()]
    parser.read_string("\n".join(uncommented))
    assert {name: set(parser[name]) for name in SECTIONS} == {
        name: set(kind._fields) for name, kind in SECTIONS.items()
    }
    again = _write(tmp_path / "b.ini", "\n".join(uncommented))
    assert read_settings(again, SECTIONS) == read_settings(None, SECTIONS)
