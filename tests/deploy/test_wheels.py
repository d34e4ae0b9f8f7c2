"""Libraries from a folder of wheels: pinned, checked, unpacked whole or not at all."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from deploy.cli import main


def _wheel(folder: Path, name: str = "drawn_thing-1.0-py3-none-any.whl", **more: str) -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("drawn/__init__.py", "VALUE = 7\n")
        archive.writestr("drawn_thing-1.0.data/purelib/drawn/more.py", "")
        archive.writestr("drawn_thing-1.0.data/scripts/run", "#!python\n")
        for member, content in more.items():
            archive.writestr(member, content)
    return path


def _list(folder: Path, wheel: Path, head: str = "") -> Path:
    path = folder / "list.txt"
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    path.write_text(f"# For a test.\n{head}Drawn.Thing==1.0 --hash=sha256:{digest}\n")
    return path


def _run(tmp_path: Path, pins: Path) -> int:
    return main(["wheels", str(tmp_path), "--list", str(pins), "--target", str(tmp_path / "target")])


def test_they_are_unpacked_and_replace_what_was_there(tmp_path):
    pins = _list(tmp_path, _wheel(tmp_path))
    (tmp_path / "target").mkdir()
    (tmp_path / "target/older.py").write_text("")
    assert _run(tmp_path, pins) == 0
    files = sorted(str(path.relative_to(tmp_path / "target")) for path in (tmp_path / "target").rglob("*.py"))
    assert files == ["drawn/__init__.py", "drawn/more.py"]
    assert len(list((tmp_path / "target/drawn/__pycache__").glob("*.pyc"))) == 2
    assert (tmp_path / "target/drawn/more.py").stat().st_mode & 0o777 == 0o644


def test_a_wheel_that_is_missing_or_another_is_refused(tmp_path, capsys):
    pins = _list(tmp_path, _wheel(tmp_path))
    _wheel(tmp_path, more="other")
    assert _run(tmp_path, pins) == 2
    assert "is not the drawn-thing==1.0 that the list pins" in capsys.readouterr().err
    _wheel(tmp_path).rename(tmp_path / "drawn_thing-1.1-py3-none-any.whl")
    assert _run(tmp_path, pins) == 2
    assert "holds no wheel of drawn-thing==1.0" in capsys.readouterr().err
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("member", ["../out.py", "/out.py", "drawn/../../out.py", "x.data/purelib/../../out.py"])
def test_a_wheel_does_not_write_outside(tmp_path, capsys, member):
    assert _run(tmp_path, _list(tmp_path, _wheel(tmp_path, **{member: ""}))) == 2
    assert "holds '" in capsys.readouterr().err
    assert not (tmp_path / "target").exists()
    assert not list(tmp_path.rglob("out.py"))


def test_another_python_and_a_bad_line_are_refused(tmp_path, capsys):
    wheel = _wheel(tmp_path)
    assert _run(tmp_path, _list(tmp_path, wheel, "# python: 2.7, aarch64\n")) == 2
    assert "is for Python 2.7, this is 3." in capsys.readouterr().err
    assert _run(tmp_path, _list(tmp_path, wheel, "numpy>=1.19\n")) == 2
    assert "list.txt:2: numpy>=1.19; write NAME==VERSION --hash=sha256:DIGITS" in capsys.readouterr().err
    wheel.write_bytes(b"no wheel")
    assert _run(tmp_path, _list(tmp_path, wheel)) == 2
    assert "is no wheel" in capsys.readouterr().err
