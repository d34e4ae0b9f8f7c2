"""The command `package`: reads what is asked, and calls what writes the package."""

import argparse
import hashlib
import io
from pathlib import Path

from jetson.board import read_board
from jetson.package.build import build_package, package_name
from jetson.package.lists import download_command

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """examples:
  python -m jetson package --board jetson-tx2
  python -m jetson package --board jetson-tx2 --print-wheels
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--board", required=True, help="name of a board, or the path of its .yaml file")
    parser.add_argument("--out", type=Path, default=Path("packages"), metavar="FOLDER", help="for it [%(default)s]")
    parser.add_argument("--print-wheels", action="store_true", help="print the command that fills a folder of wheels")


def run(arguments: argparse.Namespace) -> int:
    """Write the Debian package of what flies, for a board."""
    board = read_board(arguments.board)
    command = download_command(board)
    if arguments.print_wheels:
        print(command or f"{board.name} pins no wheels: its libraries are its own matter")
        return 0
    path = build_package(board, arguments.out / package_name(board), io.StringIO())
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}")
    print(f"on the board: sudo apt install ./{path.name}")
    if command is not None:
        print("the libraries that it does not bring: --print-wheels says how to fill a folder wheels/ with them,")
        print("and on the board: sudo skylight-detect wheels wheels/")
    return 0
