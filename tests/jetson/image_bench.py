"""What tests make an image from: NVIDIA's stand-in with a dpkg database, a bundle, a key, and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
from dpkg_root import dpkg_files
from l4t_tree import make_tarballs, pack, sample_root
from onnx import TensorProto, helper, numpy_helper

from deploy.bundle import write_bundle
from jetson.__main__ import main

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJvZ3VzYm9ndXNib2d1c2JvZ3VzYm9ndXNib2d1c2Jv pilot@laptop"
_UNIT = b"[Unit]\nDescription=Network Time Synchronization\n"


class Bench:
    """A folder to make images in, and the command with what it always needs."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.l4t, self.rootfs = self.tarballs("32.7.6")
        self.bundle = make_bundle(folder / "bundles/blank-1", "jetson-tx2")
        self.always = ["--without-wheels", "--accept-licence"]
        self.key = folder / "pilot.pub"
        self.key.write_text(KEY + "\n")

    def tarballs(self, release: str) -> tuple[Path, Path]:
        """NVIDIA's two files of a release of L4T."""
        l4t, rootfs = make_tarballs(self.folder / "files", release)
        more = {**dpkg_files(), "lib/systemd/system/systemd-timesyncd.service": _UNIT}
        rootfs.write_bytes(pack({**sample_root(), **more}))
        return l4t, rootfs

    def run(self, *words: object, out: str = "image", key: bool = True) -> int:
        """The command; options in `words` come after those that are always given."""
        given = ["--board", "jetson-tx2", "--bundle", self.bundle, "--l4t", self.l4t, "--rootfs", self.rootfs]
        given += [*self.always, "--out", self.folder / out]
        given += ["--ssh-key", self.key] if key else []
        return main(["image", *map(str, [*given, *words])])

    def fault(self, name: str | None) -> None:
        """A fault of the stand-in's scripts, from now on."""
        if name is None:
            self.monkeypatch.delenv("L4T_STAND_IN_FAULT", raising=False)
        else:
            self.monkeypatch.setenv("L4T_STAND_IN_FAULT", name)

    def root(self, out: str = "image") -> Path:
        """The root file system of an image."""
        return self.folder / out / "Linux_for_Tegra/rootfs"

    def record(self, out: str = "image") -> dict[str, object]:
        """Its image.json."""
        record: dict[str, object] = json.loads((self.folder / out / "image.json").read_bytes())
        return record

    def system(self, text: str) -> Path:
        """A file of the drone's system."""
        path = self.folder / "drone.yaml"
        path.write_text(text)
        return path


def make_bundle(folder: Path, board: str) -> Path:
    """A bundle that is whole, of a network that finds nothing."""
    values = [
        numpy_helper.from_array(np.zeros((1, 1, 4), np.float32), "b"),
        numpy_helper.from_array(np.zeros((1, 1, 1), np.float32), "s"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Add", ["mean", "b"], ["boxes"]),
        helper.make_node("Mul", ["mean", "s"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "blank",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 32, 32])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 1, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 1, 1]),
        ],
        values,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    manifest = {
        "name": "blank", "version": "1", "classes": ["arch"],
        "models": [{"file": "model.onnx", "width": 32, "height": 32, "precision": "fp32"}],
        "resize_mode": "stretch", "colour_order": "rgb", "score_threshold": 0.5, "nms_threshold": 0.45,
        "anchors": [], "masks": [], "board": {"name": board}, "provenance": {}, "parity": {},
    }  # fmt: skip
    write_bundle(folder, {"model.onnx": model.SerializeToString()}, manifest)
    return folder
