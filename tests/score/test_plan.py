"""The transfer plan: similarity as a start's batch norm sees it, the four cases, and what each calls for."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from drawn import SMALL_CFG, Skylight, assert_refused, draw_set
from torch import Tensor

from pipeline.darknet import DarknetNetwork, Header, read_cfg, save_weights
from pipeline.darknet.batch_norm import BatchNorm
from pipeline.files import file_sha256
from pipeline.networks.darknet import DarknetDetector
from pipeline.networks.detector import Detector
from pipeline.networks.families import architecture
from pipeline.score.similarity import Similarity, measure_similarity, scrambled

TRIAL = "runs/small/first/scratch-f0-s0"


def _plan(skylight: Skylight, root: Path, data: Path, *options: object) -> dict[str, Any]:
    done = skylight("plan", data, "--start", root / TRIAL, "--root", root, "--json", *options)
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


@pytest.fixture
def detector(tmp_path: Path) -> Detector:
    (tmp_path / "small.cfg").write_text(SMALL_CFG)
    return DarknetDetector(DarknetNetwork(read_cfg(tmp_path / "small.cfg")))


@pytest.fixture(scope="module")
def other_kind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn set with its pictures turned into bright stripes, which the start never saw."""
    root = draw_set(tmp_path_factory.mktemp("other") / "stripes")
    for number, path in enumerate(sorted(root.glob("images/*/*.png"))):
        image = cv2.imread(str(path))
        assert image is not None
        stripes = 255 * (np.indices(image.shape[:2]).sum(axis=0) // (2 + number) % 2)
        cv2.imwrite(str(path), np.repeat(stripes[..., None], 3, axis=2).astype(np.uint8))
    return root


def test_a_set_like_the_starts_own_is_similar_and_small_and_its_backbone_is_frozen(
    trained: Path, skylight: Skylight
) -> None:
    plan = _plan(skylight, trained, draw_set(trained / "more", seed=7))
    assert plan["case"] == "small and similar"
    assert plan["similarity"]["value"] > 0.7
    assert plan["similarity"]["near"] == pytest.approx(plan["similarity"]["target"], rel=0.3)
    assert plan["freeze"] == 7
    assert plan["layers"] is None  # the classes are the same, so the head stays
    assert plan["images"] == 24


def test_pictures_of_another_kind_are_different_and_half_the_backbone_is_frozen(
    trained: Path, skylight: Skylight, other_kind: Path
) -> None:
    plan = _plan(skylight, trained, other_kind)
    assert plan["case"] == "small and different"
    assert plan["similarity"]["value"] < 0.2
    assert plan["freeze"] == 2


def test_a_large_set_trains_everything_and_slowly_only_where_it_is_similar(
    trained: Path, skylight: Skylight, other_kind: Path
) -> None:
    similar = _plan(skylight, trained, draw_set(trained / "large", seed=8), "--large", 20)
    different = _plan(skylight, trained, other_kind, "--large", 20)
    assert (similar["case"], similar["freeze"], similar["learning_rate"]) == ("large and similar", 0, 0.0001)
    assert (different["case"], different["freeze"], different["learning_rate"]) == ("large and different", 0, 0.001)


def test_other_classes_get_a_new_head(trained: Path, skylight: Skylight, tmp_path: Path) -> None:
    data = draw_set(tmp_path / "named")
    (data / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a, b]\n")
    plan = _plan(skylight, trained, data)
    assert plan["layers"] == 7
    assert "layers from 7 on begin at random" in plan["reasons"][1]


def test_without_the_starts_own_pictures_half_of_the_scrambled_distance_stands_for_them(
    trained: Path, skylight: Skylight, tmp_path: Path
) -> None:
    root = tmp_path / "moved"
    shutil.copytree(trained / TRIAL, root / TRIAL)
    plan = _plan(skylight, root, draw_set(tmp_path / "squares"))
    assert plan["similarity"]["near"] is None
    done = skylight("plan", tmp_path / "squares", "--start", root / TRIAL, "--root", root)
    assert "of its own photos not at hand" in done.stdout


def test_no_layer_that_was_never_trained_is_frozen(trained: Path, skylight: Skylight, tmp_path: Path) -> None:
    root = tmp_path / "partly"
    shutil.copytree(trained / TRIAL, root / TRIAL)
    file = root / TRIAL / "trial.json"
    content = json.loads(file.read_text())
    content["result"]["trained_layers"] = [0, 1, 2, 6, 7, 12]
    file.write_text(json.dumps(content))
    plan = _plan(skylight, root, draw_set(tmp_path / "squares"), "--similar", 0)
    assert plan["freeze"] == 3
    assert "no further than layer 3" in plan["reasons"][0]


def test_distance_is_that_of_the_moments_in_deviations(detector: Detector) -> None:
    images = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8)
    layers = [index for index in detector.weighted_layers if index < detector.backbone]
    norms = [m for m in detector.modules() if isinstance(m, BatchNorm)]
    for norm in norms:  # in order, since what each knows changes what the next one sees
        seen: list[Tensor] = []
        handle = norm.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        measure_similarity(detector, layers, images, None)
        handle.remove()
        norm.rolling_mean.copy_(seen[0].mean(dim=(0, 2, 3)))
        norm.rolling_variance.copy_(seen[0].var(dim=(0, 2, 3), correction=0))
    similarity = measure_similarity(detector, layers, images, images)
    assert similarity.target == pytest.approx(0, abs=1e-4)
    assert similarity.value == pytest.approx(1, abs=0.01)
    norms[0].rolling_mean += 2 * norms[0].rolling_variance.sqrt()
    assert dict(measure_similarity(detector, layers, images, None).by_layer)[0] == pytest.approx(2, rel=1e-3)


def test_scrambled_pictures_keep_colours_and_frequencies() -> None:
    images = (torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(1)) * 60 + 100).to(torch.uint8)
    other = scrambled(images)
    torch.testing.assert_close(other.float().mean(dim=(2, 3)), images.float().mean(dim=(2, 3)), atol=0.5, rtol=0)
    spectra = [torch.fft.fft2(pictures.float()).abs()[..., 1:, 1:] for pictures in (images, other)]
    assert float((spectra[0] - spectra[1]).abs().mean() / spectra[0].mean()) < 0.05
    assert float((images.float() - other.float()).abs().mean()) > 10


@pytest.mark.parametrize(
    ("name", "backbone", "first_head"),
    [("yolov3-tiny", 13, 15), ("yolov3", 75, 81), ("yolov3-tinyu", 13, 20), ("yolo11n", 11, 23)],
)
def test_backbone_and_head_begin_where_they_do(name: str, backbone: int, first_head: int) -> None:
    network = architecture(name, 64, 2)
    assert network.outline().backbone == backbone
    assert network.first_head == first_head


@pytest.mark.parametrize(
    ("start", "parts"),
    [
        ("nothing.weights", ["weights nothing.weights: unknown", "one of darknet"]),
        ("folder/nothing.weights", ["folder/nothing.weights: no such file", "skylight weights"]),
    ],
)
def test_a_start_that_is_not_there_is_one_line(trained: Path, skylight: Skylight, start: str, parts: list[str]) -> None:
    assert_refused(skylight("plan", trained / "squares", "--start", start, "--root", trained), *parts)


def test_what_a_trial_says_itself_is_not_asked_again(trained: Path, skylight: Skylight) -> None:
    start = trained / TRIAL
    done = skylight("plan", trained / "squares", "--start", start, "--network", "yolov3", "--root", trained)
    assert_refused(done, "--network yolov3", "leave it out")


@pytest.mark.parametrize(
    ("near", "far", "is_telling"), [(0.12, 0.25, True), (0.99, 0.99, False), (0.31, 0.36, False), (None, 0.2, True)]
)
def test_marks_that_lie_close_together_tell_nothing(near: float | None, far: float, is_telling: bool) -> None:
    assert Similarity(0.2, near, far, ()).is_telling == is_telling


def test_a_start_that_tells_nothing_is_said(trained: Path, skylight: Skylight, tmp_path: Path) -> None:
    """Weights that were hardly trained: their batch norm knows nothing about any photos."""
    root = tmp_path / "fresh"
    shutil.copytree(trained / TRIAL, root / TRIAL)
    shutil.copytree(trained / "squares", root / "squares")
    network = DarknetNetwork(read_cfg(root / TRIAL / "network.cfg"))
    save_weights(network, root / TRIAL / "best.weights", Header(seen=0))
    file = root / TRIAL / "trial.json"
    content = json.loads(file.read_text())
    content["result"]["best_weights_sha256"] = file_sha256(root / TRIAL / "best.weights")
    file.write_text(json.dumps(content))
    assert "similarity means little" in _plan(skylight, root, root / "squares")["reasons"][-1]
