"""The command `image`: reads what is asked, and calls what makes the image."""

import argparse
import os
from pathlib import Path

from jetson.board import read_board
from jetson.image.build import build_image
from jetson.image.ext4 import make_ext4
from jetson.image.job import Request, prepare
from jetson.image.system import read_system
from jetson.runner import Runner

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """examples:
  sudo python -m jetson image --board jetson-tx2 --bundle bundles/arch-1 --wheels wheels \\
      --ssh-key ~/.ssh/id_ed25519.pub --l4t jetson_linux_r32.7.6_aarch64.tbz2 \\
      --rootfs tegra_linux_sample-root-filesystem_r32.7.6_aarch64.tbz2 --accept-licence
  sudo python -m jetson image --board jetson-tx2 --bundle bundles/arch-1 --system drone.yaml ...

Given again, it goes on where it stopped. docs/image.md says what may stand in drone.yaml.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("--board", required=True, help="name of a board, or the path of its .yaml file")
    add("--bundle", required=True, type=Path, metavar="FOLDER", help="that skylight export made")
    add("--l4t", metavar="FILE", help="NVIDIA's driver package, or its address [the board's address]")
    add("--l4t-sha256", metavar="DIGITS", help="that it must have")
    add("--rootfs", metavar="FILE", help="NVIDIA's sample root file system, or its address [the board's address]")
    add("--rootfs-sha256", metavar="DIGITS", help="that it must have")
    add(
        "--accept-licence",
        action="store_true",
        help="NVIDIA's licence, in the driver package, was read and is accepted",
    )
    add("--out", type=Path, metavar="FOLDER", help="for the image [images/BOARD]")
    add("--system", type=Path, metavar="FILE", help="host name, user, network, power mode, disks (YAML)")
    add("--ssh-key", type=Path, metavar="FILE", help="public key of the user, in place of the system's")
    add("--settings", type=Path, metavar="FILE", help="for /etc/skylight/detect.ini")
    add(
        "--trusted",
        type=Path,
        metavar="FOLDER",
        help="public keys; the drone takes only bundles that one of them signed",
    )
    wheels = parser.add_mutually_exclusive_group()
    wheels.add_argument("--wheels", type=Path, metavar="FOLDER", help="libraries that the board does not bring")
    wheels.add_argument("--without-wheels", action="store_true", help="leave these out")
    add("--packages", type=Path, metavar="FOLDER", help="of .deb files, JetPack's TensorRT and OpenCV above all")
    add("--module", help="the variant that it is for, as make flash names it")
    add("--any-board", action="store_true", help="take a bundle that was made for another board")
    add("--ext4", type=Path, metavar="FILE", help="also write the root file system as an ext4 file")


def run(arguments: argparse.Namespace) -> int:
    """Make an image of NVIDIA's packages, what flies and a bundle, ready to be flashed."""
    board = read_board(arguments.board)
    system = read_system(arguments.system)
    if arguments.ssh_key is not None:
        system = system.model_copy(update={"user": system.user.model_copy(update={"ssh_key": arguments.ssh_key})})
    request = Request(
        board=board,
        system=system,
        out=arguments.out or Path("images") / board.name,
        **{
            name: getattr(arguments, name)
            for name in (
                *("bundle", "l4t", "l4t_sha256", "rootfs", "rootfs_sha256", "trusted", "settings", "wheels"),
                *("without_wheels", "packages", "module", "any_board", "accept_licence"),
            )
        },
    )
    before = os.umask(0o022)
    try:
        job = prepare(request, _say)
        record = build_image(job, _say)
        if arguments.ext4 is not None:
            with (request.out / "image.log").open("a") as log:
                make_ext4(request.out / "Linux_for_Tegra/rootfs", arguments.ext4, Runner(log))
            _say(f"{arguments.ext4}: {arguments.ext4.stat().st_size / 2**20:.0f} MiB")
    finally:
        os.umask(before)
    if not job.debs:
        packages = ", ".join(board.runtime.packages) if board.runtime else "none"
        _say(f"warning: no --packages; where the sample root file system lacks them, install on the board: {packages}")
    _say(f"{record}: next, make flash BOARD={board.name} IMAGE={request.out}")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)
