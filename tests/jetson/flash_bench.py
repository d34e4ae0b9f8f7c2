"""A bench for flashing: a computer, an image and modules, all stand-ins; the command itself is the real one."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from l4t_tree import make_image, plug_in

from jetson.__main__ import main
from jetson.board import read_board
from jetson.flash.host import Host

BOARDS = Path(__file__).resolve().parents[2] / "jetson/boards"


class Bench:
    """The folder of a pilot, where `images/BOARD` lies and the command is called."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, board: str = "jetson-tx2") -> None:
        self.folder = folder
        self.usb = folder / "usb"
        self.usb.mkdir()
        self.storage = folder / "storage"
        self.board = read_board(board)
        self.image = make_image(folder / "images" / board, board, self.board.versions["l4t"])
        self.tree = self.image / "Linux_for_Tegra"
        self._monkeypatch = monkeypatch
        monkeypatch.chdir(folder)
        self.environment(L4T_STAND_IN_USB=str(self.usb), L4T_STAND_IN_STORAGE=str(self.storage))
        self.host = Host("Linux", "x86_64", "Ubuntu 18.04", None, 0, str(self._commands()))

    def environment(self, **values: str) -> None:
        for name, value in values.items():
            self._monkeypatch.setenv(name, value)

    def fault(self, text: str) -> None:
        self.environment(L4T_STAND_IN_FAULT=text)

    def plug_in(self, instance: str, usb_id: str = "0955:7c18", **more: str) -> Path:
        return plug_in(self.usb, instance, usb_id, devnum="7", **more)

    def flash(self, *words: str, module: str | None = "P3310", board: str | None = None) -> int:
        named = ["--module", module] if module else []
        given = ["flash", "--board", board or self.board.name, *named, *words]
        return main(given, host=self.host, usb=self.usb)

    def refused(self, capsys: pytest.CaptureFixture[str], *words: str, **more: Any) -> str:
        """The one line of a refusal, which must leave no module written."""
        before = self.partitions()
        assert self.flash(*words, **more) == 2
        line = capsys.readouterr().err
        assert re.fullmatch(r"jetson flash: [^\n]+: [^\n]+; [^\n]+\n", line), line
        assert self.partitions() == before
        return line

    def partitions(self) -> dict[str, bytes]:
        """Content of the partition APP of every module that was ever written, by USB instance."""
        return {path.parent.name: path.read_bytes() for path in self.storage.glob("*/APP")}

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("flash/*.json"))]

    def small_board(self) -> str:
        """A board file like that of the bench, whose clones need no space that a test machine may lack."""
        content = yaml.safe_load((BOARDS / f"{self.board.name}.yaml").read_text())
        content["flash"]["clone_gib"] = 0.001
        path = self.folder / f"{self.board.name}.yaml"
        path.write_text(yaml.safe_dump(content))
        return str(path)

    def _commands(self) -> Path:
        """A folder with the commands that NVIDIA's scripts need, by name."""
        assert self.board.flash is not None
        folder = self.folder / "bin"
        folder.mkdir()
        for name in self.board.flash.needs:
            (folder / name).symlink_to(shutil.which("true") or "/bin/true")
        return folder

    def with_sudo(self) -> None:
        """Be no root, with a sudo that needs no password."""
        sudo = self.folder / "bin/sudo"
        sudo.write_text('#!/bin/sh\n[ "$1" = -v ] && exit 0\n[ "$1" = -n ] && shift\nUSER=root exec "$@"\n')
        sudo.chmod(0o755)
        self.environment(PATH=f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}", USER="pilot")
        self.host = Host("Linux", "x86_64", "Ubuntu 18.04", None, 1000, str(self.folder / "bin"))
