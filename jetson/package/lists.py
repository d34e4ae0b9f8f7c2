"""The lists of wheels, one for each kind of board, and the command that fills a folder from one."""

import re
import shlex
from pathlib import Path

from deploy.errors import refuse
from jetson.board import Board

__all__ = ["download_command", "wheel_list"]

_FOLDER = Path(__file__).parent / "wheels"
# glibc 2.17 and, as one name after the other came, newer ones that the boards of that Python have.
_PLATFORMS = {
    "3.6": ("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_24_aarch64"),
    "": ("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64"),
}


def wheel_list(board: Board) -> Path | None:
    """The list of a board, or None where its libraries are its own matter.

    Raises:
        UserError: its file names a list that is not there.
    """
    if board.runtime is None:
        return None
    path = _FOLDER / f"{board.runtime.wheels}.txt"
    if not path.is_file():
        allowed = ", ".join(sorted(file.stem for file in _FOLDER.glob("*.txt")))
        raise refuse(f"{board.name}: runtime.wheels: {board.runtime.wheels}", "unknown", f"allowed: {allowed}")
    return path


def download_command(board: Board, folder: str = "wheels") -> str | None:
    """What fills `folder` with the wheels of a board, on any machine with pip and a network; None without a list."""
    path = wheel_list(board)
    if path is None:
        return None
    found = re.search(r"^# python: (\d+)\.(\d+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, path
    python = f"{found[1]}.{found[2]}"
    abi = f"cp{found[1]}{found[2]}" + ("m" if python == "3.6" else "")
    words = ["python3", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--python-version", python]
    words += ["--implementation", "cp", "--abi", abi, "--abi", "abi3", "--abi", "none"]
    for platform in (*_PLATFORMS.get(python, _PLATFORMS[""]), "any"):
        words += ["--platform", platform]
    return shlex.join([*words, "--require-hashes", "--requirement", str(path), "--dest", folder])
