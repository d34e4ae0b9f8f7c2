"""Where weights come from: published ones with what belongs to them, files, earlier stages; and the shipped grids."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bad_server import Answer, bad_server
from drawn import draw_set

from pipeline.curate import read_recipe
from pipeline.darknet import DarknetNetwork, Header, known, network_cfg
from pipeline.darknet.known import known_weights, with_known_masks
from pipeline.darknet.weights import weights_bytes
from pipeline.errors import UserError
from pipeline.experiment import DataSource, Experiment, Stage, Start, read_experiment
from pipeline.networks.darknet import DarknetDetector
from pipeline.networks.families import Architecture, architecture
from pipeline.train.stages import plan_trials
from pipeline.train.starts import known_layers, weights_file
from pipeline.workspace import Workspace

EXPERIMENTS = sorted((Path(__file__).resolve().parents[2] / "experiments").glob("*.yaml"))
BACKBONE = (0, 2, 4, 6, 8, 10, 12)


def _experiment(resize: str = "stretch") -> Experiment:
    stages = (Stage(name="one", data="set", iterations=1),)
    return Experiment(name="x", resize=resize, data={"set": DataSource(path=Path("set"))}, stages=stages)


def _layers(network: Architecture, resize: str = "stretch", **start: Any) -> tuple[int, ...]:
    return known_layers(Start(name="s", **start), network, _experiment(resize), "stage one, start s")


def test_layers_that_published_weights_fill_are_known_before_they_are_there() -> None:
    network = architecture("yolov3-tiny", 96, 1)
    assert _layers(network, known="yolov3-tiny.conv.15") == (*BACKBONE, 13, 14)
    assert _layers(network, known="darknet", layers=13) == BACKBONE
    assert _layers(network, known="yolov3-tiny", layers=15) == (*BACKBONE, 13, 14)


def test_heads_of_other_classes_masks_or_resize_mode_are_refused_with_what_would_do() -> None:
    with pytest.raises(UserError, match=r"trained on 80 classes, this stage has 1; set layers: 15"):
        _layers(architecture("yolov3-tiny", 96, 1), known="yolov3-tiny")
    coco = architecture("yolov3-tiny", 416, 80)
    with pytest.raises(UserError, match=r"mask 0,1,2 where yolov3-tiny was trained with 1,2,3"):
        _layers(coco, "letterbox", known="yolov3-tiny")
    assert coco.cfg is not None
    right = replace(coco, cfg=with_known_masks(known_weights("yolov3-tiny"), coco.cfg))
    with pytest.raises(UserError, match=r"trained with resize: letterbox, the experiment has stretch"):
        _layers(right, "stretch", known="yolov3-tiny")
    assert len(_layers(right, "letterbox", known="yolov3-tiny")) == 13


@pytest.mark.parametrize(
    ("start", "found"),
    [
        ({"known": "darknet53", "layers": 13}, "layer 0 is another than in darknet53.*use network: darknet53"),
        ({"known": "darknet53.conv.74"}, "layer 0 is another"),
        ({"known": "darknet19", "layers": 13}, "layer 0 is another"),
        ({"known": "yolov3", "layers": 15}, "layer 0 is another"),
        ({"known": "darknet"}, "layer 13 is another than in darknet.*set layers: 13"),
    ],
)
def test_weights_of_another_network_are_refused_where_they_part(start: dict[str, Any], found: str) -> None:
    with pytest.raises(UserError, match=found):
        _layers(architecture("yolov3-tiny", 96, 1), **start)


def test_darknet_weights_do_not_start_another_family() -> None:
    with pytest.raises(UserError, match="yolo11n; they are weights for a Darknet cfg"):
        _layers(architecture("yolo11n", 96, 1), known="yolov3-tiny.conv.15")


def test_the_reference_classifier_is_the_backbone_of_tiny_yolov3(tmp_path: Path) -> None:
    torch.manual_seed(1)
    classifier = DarknetNetwork(network_cfg("darknet"))
    path = tmp_path / "darknet.weights"
    path.write_bytes(weights_bytes(classifier))
    detector = architecture("yolov3-tiny", 96, 1).build()
    assert isinstance(detector, DarknetDetector)
    assert detector.load(path, 13) == BACKBONE
    for index in BACKBONE:
        assert torch.equal(detector.network.weighted(index).weight, classifier.weighted(index).weight)


def test_published_weights_are_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = weights_bytes(DarknetNetwork(network_cfg("yolov3-tiny")), Header(0, 2, 0))
    with bad_server({"/tiny": Answer(content, ["cut"])}) as server:
        tiny = replace(known_weights("yolov3-tiny"), urls=(f"{server.url}/tiny",), size=len(content), sha256=None)
        rest = [entry for entry in known.KNOWN_WEIGHTS if entry.name != tiny.name]
        monkeypatch.setattr(known, "KNOWN_WEIGHTS", (tiny, *rest))
        start = Start(name="coco", known="yolov3-tiny.conv.15")
        path = weights_file(start, tmp_path)
        assert path is not None
        network = architecture("yolov3-tiny", 96, 1).build()
        assert network.load(path) == (*BACKBONE, 13, 14)
        asked = len(server.asked)
        assert weights_file(start, tmp_path) == path
        assert len(server.asked) == asked


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda path: path.stem)
def test_shipped_experiments_name_recipes_and_weights_that_are_there(file: Path) -> None:
    experiment = read_experiment(file)
    for source in experiment.data.values():
        assert source.recipe is not None
        read_recipe(source.recipe)
    for stage in experiment.stages:
        for start in stage.starts:
            if start.known is not None:
                known_weights(start.known)


def test_the_published_grid_is_three_starts_at_three_freeze_counts(tmp_path: Path) -> None:
    experiment = read_experiment(EXPERIMENTS[0].with_name("window.yaml"))
    drawn = DataSource(path=draw_set(tmp_path / "set"))
    experiment = experiment.model_copy(update={"data": {"windows": drawn, "target": drawn}})
    plan = plan_trials(experiment, Workspace(tmp_path))
    target = [trial for trial in plan if trial.stage.name == "target"]
    arms = {(trial.start.name, trial.freeze) for trial in target}
    assert arms == {(start, freeze) for start in ("imagenet", "coco", "windows") for freeze in (0, 13, 20)}
    assert len(target) == 27
    forced = {trial.arm for trial in target if not set(trial.frozen) <= set(trial.trained)}
    assert forced == {"imagenet-f20", "coco-f20"}
    assert {trial.frozen for trial in target if trial.freeze == 20} == {(*BACKBONE, 13, 14, 15, 18)}
