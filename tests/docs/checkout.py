"""A folder that looks like the checkout after `make curate train`, as the pages name its files; everything is drawn."""

import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from drawn import SMALL_CFG, draw_picture, draw_set
from drawn_board import CAMERA, COLUMNS, ROWS, board_pose, draw_board
from drawn_source import draw_photo, draw_source, ids, row
from flown import detections, new_log, wait_for
from pages import ROOT

from deploy.bundle import read_bundle
from deploy.frame import Observation
from deploy.sources import open_source
from pipeline import cli

EXPLAINED = "0513a9188649dff1"  # the photo whose story the pages ask for
_OBJECTS = (("Window", (0.1, 0.2, 0.4, 0.8)), ("Door", (0.5, 0.2, 0.9, 0.8)))
STAGES = [
    {"name": "windows", "data": "windows", "iterations": 12},
    {"name": "arch", "data": "arch", "starts": [{"name": "windows", "stage": "windows"}], "iterations": 8},
]


def draw_checkout(root: Path) -> Path:
    """`root`, with sets, recipes, a trained experiment, a network, photos, a video and a board; photos beside it."""
    for name in ("windows", "arch"):
        _draw_set_of_three(root / "data" / f"facades-{name}")
    _write_experiment(root)
    cli.app(["train", str(root / "experiments/facades.yaml"), "--root", str(root)], standalone_mode=False)
    trials = root / "runs/facades/arch"
    shutil.copytree(trials / "windows-f0-s0", trials / "windows-f13-s0")  # this network has no 13 layers to freeze
    shutil.copy(trials / "windows-f0-s0/network.cfg", root / "my.cfg")
    shutil.copy(trials / "windows-f0-s0/best.weights", root / "my.weights")
    shutil.copytree(ROOT / "datasets", root / "datasets")
    _draw_photos(root)
    _draw_boards(root / "board")
    _draw_video(root / "flight.mp4")
    (root.parent / "shared/data/video").mkdir()
    shutil.copy(root / "flight.mp4", root.parent / "shared/data/video/udacity_test_video.mp4")
    return root


def _draw_set_of_three(folder: Path) -> None:
    """12 pictures in train, 4 in val, 2 in test."""
    draw_set(folder, train=12, val=6)
    for kind in ("images", "labels"):
        (folder / kind / "test").mkdir()
        for path in sorted((folder / kind / "val").iterdir())[4:]:
            path.rename(folder / kind / "test" / path.name)
    content = yaml.safe_load((folder / "data.yaml").read_text())
    (folder / "data.yaml").write_text(yaml.safe_dump(content | {"test": "images/test"}))


def _write_experiment(root: Path) -> None:
    (root / "experiments").mkdir()
    (root / "experiments" / "small.cfg").write_text(SMALL_CFG)
    content = {
        "name": "facades",
        "network": "small.cfg",
        "size": 64,
        "batch": 8,
        "learning_rate": 0.003,
        "data": {name: {"path": f"../data/facades-{name}"} for name in ("windows", "arch")},
        "stages": STAGES,
        "export": {"stage": "arch", "name": "arch"},
    }
    (root / "experiments" / "facades.yaml").write_text(yaml.safe_dump(content))


def _draw_photos(root: Path) -> None:
    """In the Open Images layout: two kinds of objects on each; and a few of one's own with YOLO labels."""
    names = [EXPLAINED, *ids(23)]
    rows = [row(name, label, box) for name in names for label, box in _OBJECTS]
    draw_source(root.parent / "shared/data/facades", rows)
    (root.parent / "shared/data/facades/metadata/classes.csv").write_text(
        "".join(f"/x/{name.lower()},{name}\n" for name in ("Window", "Door", "Arch", "Signboard"))
    )
    own = root / "my/photos"
    (own / "labels").mkdir(parents=True)
    (own / "classes.txt").write_text("Window\n")
    for index in range(8):
        draw_photo(own / "images" / f"{index}.jpg", seed=index)
        (own / "labels" / f"{index}.txt").write_text("0 0.5 0.5 0.25 0.5\n")


def _draw_boards(folder: Path) -> None:
    """12 pictures of a chessboard, and the same as a video beside the folder."""
    folder.mkdir()
    rng = np.random.default_rng(35)
    writer = _video_writer(folder.with_suffix(".mp4"), CAMERA.width, CAMERA.height)
    for index in range(12):
        image = draw_board(CAMERA, *board_pose(rng, 40.0), rng)
        cv2.imwrite(str(folder / f"{index:02d}.png"), image)
        for _ in range(5):
            writer.write(image)
    writer.release()
    assert (COLUMNS, ROWS) == (9, 6), "the board of the pages"


def _draw_video(path: Path) -> None:
    rng = np.random.default_rng(0)
    writer = _video_writer(path, 96, 80)
    for _ in range(10):
        writer.write(draw_picture(rng)[0])
    writer.release()


def _video_writer(path: Path, width: int, height: int) -> Any:
    return cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (width, height))


def fly(root: Path) -> None:
    """Flight 12 in `log`, on flight.mp4 with the first bundle; every frame holds a detection that is hardly one."""
    (root / "log/flight-000011").mkdir(parents=True)
    bundle = read_bundle(root / "bundles/arch-1")
    flown = new_log(root / "log", bundle, keep=600)
    found = detections(((4.0, 4.0, 40.0, 40.0), bundle.score_threshold + 0.01, 0))
    for frame in open_source(str(root / "flight.mp4")):
        frame = frame._replace(captured=100.0 + frame.number)
        flown.publish(Observation(frame, found, (), 0.01, 0.1, 0, (64, 64), {}))
        wait_for(lambda: flown.status()["waiting"] == 0)
    flown.close()


def hand_over_keys(root: Path) -> None:
    """team.key, and the folder `keys` of those who are trusted, from the key that `skylight keys new` made."""
    made = Path(os.environ["XDG_CONFIG_HOME"]) / "skylight/keys"
    (root / "keys").mkdir()
    for path in made.iterdir():
        shutil.copy(path, root / f"team{path.suffix}")
        if path.suffix == ".pub":
            shutil.copy(path, root / "keys")


def make_another_bundle(root: Path) -> None:
    """arch-2, of other weights than arch-1; and the model of arch-1 alone."""
    trial = str(root / "runs/facades/windows/scratch-f0-s0")
    cli.app(["export", trial, "--name", "arch", "--version", "2", "--root", str(root)], standalone_mode=False)
    shutil.copy(root / "bundles/arch-1/model.onnx", root / "model.onnx")


def use_up_cfg(root: Path) -> None:
    """No cfg is overwritten: make place for the one that is to be written."""
    (root / "my.cfg").unlink()
