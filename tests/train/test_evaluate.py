"""`skylight evaluate`: a real model on its own detections, a trial on its own set, what does not belong together."""

import copy
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from bad_server import Answer, bad_server
from drawn import SMALL_CFG, assert_refused, draw_set

from deploy.frame import Detections
from pipeline import cli
from pipeline.curated import LabelledImage, hash_curated_set, read_curated_set
from pipeline.darknet import DarknetNetwork, network_cfg, read_cfg, save_weights
from pipeline.darknet import known as known_module
from pipeline.darknet.known import KnownWeights, known_weights
from pipeline.errors import UserError
from pipeline.files import file_sha256
from pipeline.networks.darknet import DarknetDetector
from pipeline.networks.families import architecture
from pipeline.train import evaluate as module
from pipeline.train.dataset import load_images
from pipeline.train.evaluate import Evaluated, evaluate_network
from pipeline.train.metrics import Counts, evaluate, score
from pipeline.train.pairing import Wish
from pipeline.train.trial import TrialFolder
from pipeline.workspace import Workspace

TRIAL = Path("runs/small/first/scratch-f0-s0")


@pytest.fixture(scope="module")
def darknets_own(darknet_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of two photos, in val alone, whose labels are what Darknet printed for them."""
    root = tmp_path_factory.mktemp("own")
    for kind in ("images", "labels"):
        (root / kind / "val").mkdir(parents=True)
    for name in ("dog", "person"):
        (root / "images/val" / f"{name}.jpg").symlink_to(darknet_data / f"{name}.jpg")
        rows = np.loadtxt(darknet_data / f"yolo-fastest-1.1_{name}_detections.txt", ndmin=2)
        first, last = (rows[:, 2:4] - rows[:, 4:6] / 2).clip(0, 1), (rows[:, 2:4] + rows[:, 4:6] / 2).clip(0, 1)
        boxes = np.concatenate([(first + last) / 2, last - first], axis=1)
        lines = [f"{row[0]:.0f} " + " ".join(f"{v:.6f}" for v in box) for row, box in zip(rows, boxes, strict=True)]
        (root / "labels/val" / f"{name}.txt").write_text("\n".join(lines))
    names = (darknet_data / "coco.names").read_text().split("\n")[:80]
    (root / "data.yaml").write_text(yaml.safe_dump({"val": "images/val", "names": names}))
    return root


@pytest.fixture(scope="module")
def yolo_fastest(darknet_data: Path) -> Callable[..., Wish]:
    """What to ask for the real model."""
    model = darknet_data / "yolo-fastest-1.1"

    def wish(**changes: object) -> Wish:
        return dataclasses.replace(Wish(f"{model}.cfg", f"{model}.weights"), **changes)  # type: ignore[arg-type]

    return wish


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn set with random weights of the small network beside it."""
    root = draw_set(tmp_path_factory.mktemp("squares") / "squares", train=2, val=6)
    (root.parent / "small.cfg").write_text(
        SMALL_CFG.replace("filters=18", "filters=12").replace("classes=4", "classes=1")
    )
    torch.manual_seed(0)
    save_weights(_small(root.parent), root.parent / "small.weights")
    return root


def _small(folder: Path) -> DarknetNetwork:
    return DarknetNetwork(read_cfg(folder / "small.cfg"))


def _measured(wish: Wish, root: Path = Path()) -> Evaluated:
    return evaluate_network(wish, Workspace(root))


def test_what_darknet_printed_is_found_to_the_last_box(darknets_own, yolo_fastest, skylight):
    wish = yolo_fastest()
    done = skylight("evaluate", wish.network, "--weights", wish.weights, "--data", darknets_own, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ap50"] == 1.0
    assert found["darknet_map"] == pytest.approx(7 / 80)  # seven classes have boxes; Darknet divides by all 80
    assert [found[key] for key in ("precision", "recall", "f1")] == [1.0] * 3
    assert sum(row["right"] for row in found["classes"]) == sum(row["labels"] for row in found["classes"]) == 12
    assert found["coco_map"] > 0.9
    assert (found["images"], found["width"], found["height"], found["resize"]) == (2, 320, 320, "stretch")
    assert found["weights_sha256"] == file_sha256(Path(wish.weights))
    assert f"{wish.network}: 2 of 2" in done.stderr


def test_another_resize_mode_gives_other_figures(darknets_own, yolo_fastest):
    stretched = _measured(yolo_fastest(data=darknets_own))
    letterboxed = _measured(yolo_fastest(data=darknets_own, resize="letterbox"))
    assert letterboxed.resize == "letterbox"
    assert letterboxed.scores.ap50 < 0.95 < stretched.scores.ap50
    assert letterboxed.scores.recall < stretched.scores.recall


def test_size_is_width_by_height(darknets_own, yolo_fastest, skylight):
    wish = yolo_fastest()
    done = skylight("evaluate", wish.network, "--weights", wish.weights, "--data", darknets_own, "--size", "416x256")
    assert done.returncode == 0, done.stderr
    assert "2 images, 416 x 256 pixels, resize stretch" in done.stdout
    assert "detector map counts the other 73 as 0" in done.stdout


def test_trial_scores_what_it_scored_in_training_and_on_its_own_set(trained, skylight):
    done = skylight("evaluate", trained / TRIAL, "--root", trained, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    settings, result = TrialFolder(trained / TRIAL).read()
    assert result is not None
    assert found["ap50"] == result.best_ap50 > 0
    data = read_curated_set(trained / "squares")
    detector = DarknetDetector(DarknetNetwork(read_cfg(trained / TRIAL / "network.cfg")))
    detector.load(trained / TRIAL / "best.weights")
    pictures = load_images(data.splits["val"], 64, 64, settings.resize)
    expected = evaluate(detector, pictures, settings.classes).as_dict()
    for key in ("ap50", "precision", "recall", "f1", "coco_map", "ap_small", "ap_medium", "ap_large"):
        assert found[key] == expected[key], key
    (row,) = found["classes"]
    assert row["name"] == "square"
    assert row["labels"] == sum(len(image.boxes) for image in data.splits["val"])
    assert row["right"] / row["found"] == found["precision"]
    assert found["data"] == str(trained / "squares")
    assert found["data_hash"] == hash_curated_set(trained / "squares", "val")


def test_cfg_and_weights_of_a_trial_give_what_the_trial_gives(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trial = _measured(Wish(str(trained / TRIAL)), trained)
    apart = Wish(str(trained / TRIAL / "network.cfg"), str(trained / TRIAL / "best.weights"), trained / "squares")
    assert _measured(apart).scores.as_dict() == trial.scores.as_dict()
    train = _measured(Wish(str(trained / TRIAL), split="train"), trained)
    assert len(train.images) == 24
    assert not list(tmp_path.iterdir())


def test_a_few_pictures_at_a_time_give_the_same(trained, monkeypatch):
    wish = Wish(str(trained / TRIAL))
    whole = _measured(wish, trained)
    monkeypatch.setattr(module, "_PICTURES_AT_ONCE", 3)
    told: list[tuple[int, int]] = []
    parts = evaluate_network(wish, Workspace(trained), lambda *row: told.append(row))
    assert told == [(3, 8), (6, 8), (8, 8)]
    assert parts.scores.ap50 == pytest.approx(whole.scores.ap50, abs=1e-4)
    assert parts.scores.counts_per_class == whole.scores.counts_per_class


def test_trial_needs_its_set_as_it_was(trained, tmp_path):
    with pytest.raises(
        UserError, match=r"the set squares that it was trained on is not under .*; give --data or --root"
    ):
        _measured(Wish(str(trained / TRIAL)), tmp_path)
    shutil.copytree(trained / "squares", tmp_path / "data/squares")
    assert _measured(Wish(str(trained / TRIAL)), tmp_path).data.root == tmp_path / "data/squares"
    (tmp_path / "data/squares/labels/val/val000.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    with pytest.raises(UserError, match="is not the set that scratch-f0-s0 was trained on; give --data"):
        _measured(Wish(str(trained / TRIAL)), tmp_path)
    assert _measured(Wish(str(trained / TRIAL), data=tmp_path / "data/squares")).data.root == tmp_path / "data/squares"


def test_trial_keeps_its_resize_mode_and_its_order_of_classes(trained, tmp_path):
    with pytest.raises(UserError, match="was trained with stretch; write --resize stretch, or leave it out"):
        _measured(Wish(str(trained / TRIAL), resize="letterbox"), trained)
    folder = tmp_path / "trial"
    shutil.copytree(trained / TRIAL, folder)
    content = json.loads((folder / "trial.json").read_text())
    content["settings"]["classes"] = ["a", "b"]
    (folder / "trial.json").write_text(json.dumps(content))
    cfg = (folder / "network.cfg").read_text().replace("filters=12", "filters=14").replace("classes=1", "classes=2")
    (folder / "network.cfg").write_text(cfg)
    data = draw_set(tmp_path / "two", train=1, val=2)
    (data / "data.yaml").write_text(yaml.safe_dump({"val": "images/val", "names": ["b", "a"]}))
    with pytest.raises(UserError, match=r"was trained with the classes a, b, and .* has them in another order"):
        _measured(Wish(str(folder), data=data))


def test_unfinished_trial_is_refused_unless_a_file_is_named(trained, tmp_path):
    folder = tmp_path / "trial"
    shutil.copytree(trained / TRIAL, folder)
    content = json.loads((folder / "trial.json").read_text()) | {"result": None}
    (folder / "trial.json").write_text(json.dumps(content))
    with pytest.raises(
        UserError, match="is not finished; run skylight train on its experiment, or name a weights file"
    ):
        _measured(Wish(str(folder)), trained)
    wish = Wish(str(folder), weights=str(folder / "last.weights"))
    assert _measured(wish, trained).weights == folder / "last.weights"


def _known(trained: Path, **changes: object) -> KnownWeights:
    """An entry of the table that stands for the weights of the trial."""
    weights = trained / TRIAL / "best.weights"
    entry = dataclasses.replace(
        known_weights("yolov3-tiny"),
        name="small",
        size=weights.stat().st_size,
        sha256=file_sha256(weights),
        masks=((2, 3), (0, 1)),
        resize="stretch",
        classes=1,
    )
    return dataclasses.replace(entry, **changes)  # type: ignore[arg-type]


def _publish(monkeypatch: pytest.MonkeyPatch, entry: KnownWeights) -> None:
    monkeypatch.setattr(known_module, "KNOWN_WEIGHTS", (entry,))


def test_published_weights_bring_their_resize_mode_and_are_downloaded_last(trained, tmp_path, monkeypatch):
    content = (trained / TRIAL / "best.weights").read_bytes()
    cfg = str(trained / TRIAL / "network.cfg")
    told: list[tuple[int, int | None]] = []
    with bad_server({"/w": Answer(content)}) as server:
        _publish(monkeypatch, _known(trained, urls=(f"{server.url}/w",), resize="letterbox"))
        wish = Wish(cfg, "small", trained / "squares")
        with pytest.raises(UserError, match="small was trained with letterbox; write --resize letterbox"):
            _measured(dataclasses.replace(wish, resize="stretch"), tmp_path)
        assert not server.asked
        found = evaluate_network(wish, Workspace(tmp_path), download_progress=lambda *row: told.append(row))
    assert found.resize == "letterbox"
    assert found.weights == tmp_path / "cache/weights/small.weights"
    assert told[-1] == (len(content), len(content))


def test_published_weights_are_known_by_their_content_and_keep_their_masks(trained, tmp_path, monkeypatch):
    shutil.copy(trained / TRIAL / "best.weights", tmp_path / "renamed.bin")
    _publish(monkeypatch, _known(trained, urls=(), masks=((2, 3), (1, 2))))
    wish = Wish(str(trained / TRIAL / "network.cfg"), str(tmp_path / "renamed.bin"), trained / "squares")
    with pytest.raises(
        UserError, match=r"has mask 0,1 where small was trained with 1,2; write .*, or add --known-masks"
    ):
        _measured(wish, tmp_path)
    changed = _measured(dataclasses.replace(wish, with_known_masks=True), tmp_path)
    assert changed.weights == tmp_path / "renamed.bin"
    same = _measured(Wish(str(trained / TRIAL)), trained)
    assert changed.scores.as_dict() != same.scores.as_dict()


def test_published_weights_are_refused_before_they_are_downloaded(darknets_own, skylight, tmp_path):
    wish = ("--weights", "yolov3-tiny", "--data", darknets_own, "--root", tmp_path)
    assert_refused(skylight("evaluate", "yolov3-tiny", *wish), "mask 0,1,2", "mask=1,2,3", "--known-masks")
    with pytest.raises(UserError, match="--resize letterbox: yolov4-tiny was trained with stretch"):
        _measured(Wish("yolov4-tiny", "yolov4-tiny", darknets_own, resize="letterbox"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_head_for_other_classes_than_the_labels_is_refused(squares, yolo_fastest, skylight):
    wish = yolo_fastest()
    done = skylight("evaluate", wish.network, "--weights", wish.weights, "--data", squares)
    assert_refused(done, "its head has 80 classes", "has 1", "same 80 classes in the same order")


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"data": None}, "--data: not given"),
        ({"data": Path("nowhere")}, "nowhere: no such folder"),
        ({"split": "test"}, "data.yaml: test"),
        ({"weights": None}, "small.cfg: a cfg holds no weights; give --weights"),
        ({"weights": "nothing"}, "weights nothing: unknown"),
        ({"weights": "no/thing.weights"}, "no/thing.weights: no such file"),
        ({"weights": "yolov3-tiny"}, "has 1 classes where yolov3-tiny was trained on 80; use the cfg yolov3-tiny"),
        ({"weights": "yolov3-tiny.conv.15"}, r"yolov3-tiny.conv.15: holds no \[yolo\] heads"),
        ({"weights": "cut.weights"}, "cut.weights: holds no layer from 12 on; give the weights of the whole network"),
        ({"with_known_masks": True}, "is none of the published files"),
        ({"size": (100, 64)}, "small.cfg"),
        ({"network": "darknet19"}, r"has no \[yolo\] layer"),
        ({"network": "yolov9000x"}, "yolov9000x"),
        ({"network": "runs/small/typo", "data": None}, "runs/small/typo: no trial.json in it"),
        ({"network": "yolo11n", "size": (64, 64)}, "small.weights: no readable .safetensors"),
        ({"network": "yolo11n"}, "yolo11n: has no input size of its own; give --size"),
        ({"network": "yolo11n", "size": (64, 96)}, "--size 64x96: yolo11n takes square pictures"),
        ({"network": "fasterrcnn_resnet50_fpn", "weights": None}, "a name holds no weights"),
        ({"network": "yolo11n", "with_known_masks": True}, "yolo11n has no masks"),
    ],
)
def test_what_does_not_belong_together_is_refused(squares, monkeypatch, changes, found):
    monkeypatch.chdir(squares.parent)
    save_weights(_small(squares.parent), Path("cut.weights"), up_to=9)
    wish = Wish("small.cfg", "small.weights", squares)
    assert _measured(wish).width == 64
    with pytest.raises(UserError, match=found) as caught:
        _measured(dataclasses.replace(wish, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value", "found"),
    [("--split", "dev", "allowed: train, val, test"), ("--resize", "crop", "letterbox"), ("--size", "4x", "416x256")],
)
def test_option_with_a_value_that_there_is_not_is_refused(tmp_path, option, value, found):
    with pytest.raises(UserError, match=f"{option} {value}: .*{found}"):
        cli.app(["evaluate", "x.cfg", "--data", str(tmp_path), option, value], standalone_mode=False)


def test_letter_box_in_the_cfg_is_the_default(squares, tmp_path):
    text = (squares.parent / "small.cfg").read_text().replace("channels=3", "channels=3\nletter_box=1")
    (tmp_path / "boxed.cfg").write_text(text)
    wish = Wish(str(tmp_path / "boxed.cfg"), str(squares.parent / "small.weights"), squares)
    assert _measured(wish).resize == "letterbox"
    assert _measured(dataclasses.replace(wish, resize="stretch")).resize == "stretch"


def test_set_without_a_label_in_the_split_is_refused(squares, tmp_path):
    shutil.copytree(squares, tmp_path / "s")
    for label in (tmp_path / "s/labels/val").iterdir():
        label.write_text("")
    with pytest.raises(UserError, match="no box in val"):
        _measured(Wish(str(squares.parent / "small.cfg"), str(squares.parent / "small.weights"), tmp_path / "s"))


def test_other_families_are_measured_and_their_trials_find_their_size(squares, trained, tmp_path):
    network = architecture("yolo11n", 64, 1)
    network.build().save(tmp_path / "best.safetensors", 0)
    wish = Wish("yolo11n", str(tmp_path / "best.safetensors"), squares, size=(64, 64))
    alone = _measured(wish)
    assert (alone.width, alone.height, alone.resize) == (64, 64, "stretch")
    settings, result = TrialFolder(trained / TRIAL).read()
    assert result is not None
    settings = settings.model_copy(update={"network": "yolo11n", "size": 64})
    result = result.model_copy(update={"best_weights_sha256": file_sha256(tmp_path / "best.safetensors")})
    TrialFolder(tmp_path).write(settings, result)
    of_trial = _measured(Wish(str(tmp_path), data=squares))
    assert (of_trial.width, of_trial.scores.as_dict()) == (64, alone.scores.as_dict())
    two = architecture("yolo11n", 64, 2).build()
    two.save(tmp_path / "two.safetensors", 0)
    with pytest.raises(UserError, match=r"its head has 2 classes, and .* has 1"):
        _measured(dataclasses.replace(wish, weights=str(tmp_path / "two.safetensors")))


def test_counts_are_those_of_detector_map():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60]], np.float32)
    truth = LabelledImage(Path("x.jpg"), "x", 100, 100, boxes, np.array([0, 0, 2]))
    found = Detections(
        np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 40, 40], [70, 70, 80, 80], [0, 0, 5, 5]], np.float32),
        np.array([0.9, 0.8, 0.25, 0.7, 0.6], np.float32),
        np.array([0, 0, 0, 0, 1]),
    )
    scores = score([found], [truth], 3)
    # 0.25 is not above 0.25; the second box on one label is wrong; class 1 has no label, class 2 no detection.
    assert scores.counts_per_class == (Counts(2, 3, 1), Counts(0, 1, 0), Counts(1, 0, 0))
    assert (scores.precision, scores.recall) == (1 / 4, 1 / 3)
    assert scores.ap50_per_class[0] == pytest.approx(0.5 + 0.5 * 2 / 4)
    assert scores.ap50 == pytest.approx(0.75 / 2)
    assert scores.darknet_map == pytest.approx(0.75 / 3)


def test_one_split_is_read_without_the_others(tmp_path):
    root = draw_set(tmp_path / "s", train=2, val=3)
    whole = hash_curated_set(root)
    val = hash_curated_set(root, "val")
    shutil.rmtree(root / "images/train")
    found = read_curated_set(root, only="val")
    assert [len(found.splits[split]) for split in ("train", "val", "test")] == [0, 3, 0]
    assert found.content_hash == val != whole
    with pytest.raises(UserError, match="train"):
        read_curated_set(root)


def test_shipped_cfg_is_meant_by_its_name(squares):
    weights = squares.parent / "tiny.weights"
    save_weights(DarknetNetwork(network_cfg("yolov3-tiny")), weights)
    with pytest.raises(UserError, match="its head has 80 classes"):
        _measured(Wish("yolov3-tiny", str(weights), squares))


def test_files_of_ultralytics_are_letterboxed_and_keep_their_classes(squares, tmp_path):
    path = _write_pt(tmp_path / "theirs.pt", classes=1)
    wish = Wish(str(path), data=squares, size=(64, 64))
    found = _measured(wish)
    assert (found.weights, found.resize, found.width) == (path, "letterbox", 64)
    assert _measured(dataclasses.replace(wish, resize="stretch")).resize == "stretch"
    with pytest.raises(UserError, match=r"its head has 3 classes, and .* has 1"):
        _measured(dataclasses.replace(wish, network=str(_write_pt(tmp_path / "three.pt", classes=3))))


def _write_pt(path: Path, classes: int) -> Path:
    """A random network as Ultralytics saves it."""
    network: Any = copy.deepcopy(architecture("yolo11n", 64, classes).build().network)
    network.args = vars(network.args)
    torch.save({"model": network.half(), "ema": None, "train_args": {}}, path)
    return path
