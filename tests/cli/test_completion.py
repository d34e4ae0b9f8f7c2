"""Completion in the shell: the script that is installed, and what it completes."""

import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
ASK = """
source "$HOME/.bashrc"
COMP_WORDS=({words}); COMP_CWORD={last}
_skylight_completion skylight
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def _bash(home: Path, script: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HOME": str(home), "PATH": f"{BIN}:{os.environ['PATH']}"}
    environment.pop("XDG_CONFIG_HOME", None)
    command = ["bash", "--norc", "-c", script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_completion_is_installed_and_completes_verbs_and_options(tmp_path: Path) -> None:
    (tmp_path / ".bashrc").write_text("# mine\n")
    done = _bash(
        tmp_path, "skylight --install-completion || exit"
    )  # alone it would replace bash, by which it knows the shell
    assert done.returncode == 0, done.stderr
    assert "# mine" in (tmp_path / ".bashrc").read_text()
    for words, last, found in (
        ("skylight cura", 1, ["curate"]),
        ("skylight bundle ", 2, ["diff", "show", "verify"]),
        ("skylight train --work", 2, ["--workers"]),
    ):
        asked = _bash(tmp_path, ASK.format(words=words, last=last))
        assert sorted(asked.stdout.split()) == found, asked.stderr


def test_completion_can_be_shown(tmp_path: Path) -> None:
    done = _bash(tmp_path, "skylight --show-completion || exit")
    assert done.returncode == 0, done.stderr
    assert "complete -o default -F _skylight_completion skylight" in done.stdout
