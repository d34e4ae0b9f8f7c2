"""Files and folders appear complete or not at all, and what a killed process left is cleared away."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.files import locked_name, new_file, new_folder, write_text


def test_error_inside_leaves_what_was_there(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "x").write_text("old")
    with pytest.raises(ValueError, match="no"), new_file(tmp_path / "a.txt") as part:  # noqa: PT012
        part.write_text("half")
        raise ValueError("no")
    with pytest.raises(ValueError, match="no"), new_folder(tmp_path / "set") as folder:  # noqa: PT012
        (folder / "x").write_text("half")
        raise ValueError("no")
    assert (tmp_path / "a.txt").read_text() == (tmp_path / "set" / "x").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "set"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from pipeline.files import new_folder\n"
        "with new_folder(Path(sys.argv[1])) as part:\n"
        "    (part / 'x').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "set")], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    with new_folder(tmp_path / "set") as part:
        (part / "x").write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("ending", ["raise KeyboardInterrupt", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_older_folder_comes_back_where_the_new_one_does_not_come(tmp_path, ending):
    """Stopped between the two renames: the older one is the only one there is."""
    code = (
        "import os, signal, sys; from pathlib import Path; from pipeline.files import new_folder\n"
        "rename = Path.rename\n"
        "def stopped(self, target):\n"
        f"    if Path(target).name == 'set' and not self.name.endswith('.old'): {ending}\n"
        "    return rename(self, target)\n"
        "with new_folder(Path(sys.argv[1])) as part:\n"
        "    (part / 'x').write_text('new'); Path.rename = stopped"
    )
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "x").write_text("old")
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "set")], check=False, stderr=subprocess.DEVNULL)
    with pytest.raises(ValueError, match="no"), new_folder(tmp_path / "set"):
        raise ValueError("no")
    assert (tmp_path / "set" / "x").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_link_to_a_folder_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with new_folder(tmp_path / "link") as part:
        (part / "x").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert Path(tmp_path / "real" / "x").read_text() == "new"


def test_a_name_is_held_by_one_process_and_the_other_hears_by_which(tmp_path: Path) -> None:
    path = tmp_path / "bundles" / "arch-1"
    code = "import sys; from pathlib import Path; from pipeline.files import locked_name\n"
    code += "with locked_name(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        said = rf"arch-1: is being made by process {other.pid} on .*, since \d{{4}}-.*; wait until it is done"
        with pytest.raises(UserError, match=said), locked_name(path):
            pass
        with locked_name(path.with_name("arch-2")):
            pass
        other.kill()
    with locked_name(path):
        path.mkdir()
    assert [entry.name for entry in path.parent.iterdir()] == ["arch-1"]
    with locked_name(tmp_path / "new" / "arch-1"):
        pass
    assert not (tmp_path / "new").exists()
