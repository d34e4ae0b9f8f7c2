"""Features are what the layer gives, whatever the family; the file holds what is needed to use them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import SMALL_CFG, Skylight, assert_refused
from drawn_objects import NETWORK, refusal

from pipeline import cli
from pipeline.curated import read_curated_set
from pipeline.darknet import DarknetNetwork, Header, read_cfg, save_weights
from pipeline.errors import UserError
from pipeline.files import file_sha256
from pipeline.interrupt import Interrupted, StopRequest
from pipeline.score.crops import cut_crops
from pipeline.score.feature_probe import probe
from pipeline.score.features import read_pictures, write_features
from pipeline.score.subject import Subject, SubjectWish, find_subject
from pipeline.train.dataset import load_images
from pipeline.workspace import Workspace


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, DarknetNetwork]:
    """A small cfg, weights for it, and the network."""
    root = tmp_path_factory.mktemp("small")
    (root / "small.cfg").write_text(SMALL_CFG)
    torch.manual_seed(3)
    network = DarknetNetwork(read_cfg(root / "small.cfg")).eval()
    save_weights(network, root / "small.weights", Header(seen=1))
    return root / "small.cfg", root / "small.weights", network


def _subject(network: object, layer: object, weights: object = "random", **options: Any) -> Subject:
    wish = SubjectWish(str(network), None if weights is None else str(weights), str(layer), **options)
    return find_subject(wish, Workspace(Path()))


def _features(subject: Subject, data: Path, out: Path, pool: Any = "mean", smallest: float | None = None) -> Any:
    write_features(subject, read_pictures(data, smallest), pool, out, StopRequest())
    with np.load(out) as content:  # without pickle
        return dict(content)


@pytest.mark.parametrize("pool", ["mean", "max", "none"])
def test_darknet_layer_is_its_output_on_photos(pool: str, small: Any, objects: Path, tmp_path: Path) -> None:
    cfg, weights, network = small
    found = _features(_subject(cfg, 6, weights), objects, tmp_path / "f.npz", pool)
    images = [image for split in read_curated_set(objects).splits.values() for image in split]
    with torch.no_grad():
        maps = network.outputs(load_images(images, 64, 64, "stretch").images.float() / 255, [6])[6]
    expected = {"mean": maps.mean((2, 3)), "max": maps.amax((2, 3)), "none": maps}[pool]
    assert found["features"].dtype == np.float32
    assert found["features"] == pytest.approx(expected.numpy(), abs=1e-5)
    assert found["image_ids"].tolist() == [image.image_id for image in images]
    assert found["splits"].tolist() == ["train"] * 16 + ["val"] * 8 + ["test"] * 4
    assert found["labels"].tolist() == [-1] * 28  # every photo holds both kinds
    assert str(found["weights_sha256"]) == file_sha256(weights)
    assert (int(found["layer"]), str(found["layer_name"]), str(found["network"])) == (6, "convolutional", str(cfg))


def test_classifier_layer_is_its_output_on_crops(objects: Path, tmp_path: Path) -> None:
    subject = _subject(NETWORK, "conv5.2", size=(32, 32), seed=4)
    found = _features(subject, objects, tmp_path / "f.npz", smallest=8)
    images = [image for split in read_curated_set(objects).splits.values() for image in split]
    crops = cut_crops(images, 32, 32, 8)
    seen: list[torch.Tensor] = []
    module = subject.module
    handle = subject.output.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad(), handle:
        module(crops.pixels.float() / 255)
    assert found["features"] == pytest.approx(seen[0].mean((2, 3)).numpy(), abs=1e-5)
    assert found["labels"].tolist() == crops.labels.tolist() == [0, 1] * 28
    assert found["boxes"].tolist() == crops.boxes.tolist()
    assert found["classes"].tolist() == ["disc", "square"]
    again = _features(_subject(NETWORK, "conv5.2", size=(32, 32), seed=4), objects, tmp_path / "g.npz", smallest=8)
    assert np.array_equal(found["features"], again["features"])  # random weights of a seed


@pytest.mark.parametrize(
    ("network", "layer", "shape"),
    [
        ("yolo11n", 4, (28, 128)),
        ("fasterrcnn_resnet50_fpn", 0, (28, 64)),
        ("fasterrcnn_resnet50_fpn", 3, (28, 256)),
        ("fasterrcnn_resnet50_fpn", 17, (28, 5 * 256)),  # the levels of the pyramid, one after the other
    ],
)
def test_other_families(network: str, layer: int, shape: tuple[int, ...], objects: Path, tmp_path: Path) -> None:
    subject = _subject(network, layer, size=(64, 64))
    found = _features(subject, objects, tmp_path / "f.npz")["features"]
    assert found.shape == shape
    assert found.std(axis=0).max() > 0  # pictures differ


def test_layers_without_a_map_per_picture_are_refused(objects: Path, tmp_path: Path) -> None:
    for layer, pool, message in ((19, "mean", "no map per picture"), (17, "none", "maps of several sizes")):
        subject = _subject("fasterrcnn_resnet50_fpn", layer, size=(64, 64))
        with pytest.raises(UserError, match=message):
            _features(subject, objects, tmp_path / "f.npz", pool)
        assert not list(tmp_path.iterdir())


def test_weights_that_end_before_the_layer_are_refused(small: Any, tmp_path: Path) -> None:
    cfg, _, network = small
    save_weights(network, tmp_path / "short.weights", Header(seen=1), 3)
    assert _subject(cfg, 2, tmp_path / "short.weights").layer == 2
    with pytest.raises(UserError, match=r"short.weights: holds no layer from 3 on; give --layer 2"):
        _subject(cfg, 3, tmp_path / "short.weights")
    with pytest.raises(UserError, match="layer 0 is another than in yolov4-tiny"):
        _subject("yolov3-tiny", 0, "yolov4-tiny.conv.29")
    with pytest.raises(UserError, match=r"--layer 99: no layer of .*it has 0 convolutional, 1 convolutional"):
        _subject(cfg, 99)


def test_a_stop_leaves_nothing_and_a_file_that_is_there_stays(small: Any, objects: Path, tmp_path: Path) -> None:
    subject, stop = _subject(small[0], 4, small[1]), StopRequest()
    stop.is_set = True
    with pytest.raises(Interrupted, match="no features are kept"):
        write_features(subject, read_pictures(objects, None), "mean", tmp_path / "f.npz", stop)
    assert not list(tmp_path.iterdir())
    first = write_features(subject, read_pictures(objects, None), "mean", tmp_path / "f.npz", StopRequest())
    # The same are not computed again, so a stop has nothing to stop.
    assert write_features(subject, read_pictures(objects, None), "mean", tmp_path / "f.npz", stop) == first == (28, 32)
    with pytest.raises(UserError, match="is there, with pool=mean, now max"):
        write_features(subject, read_pictures(objects, None), "max", tmp_path / "f.npz", stop)
    (tmp_path / "mine.npz").write_bytes(b"mine")
    with pytest.raises(UserError, match="holds no features of ours"):
        write_features(subject, read_pictures(objects, None), "mean", tmp_path / "mine.npz", stop)


@pytest.mark.parametrize("method", ["knn", "logistic"])
def test_classes_that_features_tell_apart_are_found(
    method: str, objects: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "f.npz"
    options = ["--weights", "random", "--layer", "conv5.2", "--size", 32, "--data", objects, "--crops", "--out", out]
    arguments = ["features", NETWORK, *options, "--classify", method, "--json"]
    cli.app([str(argument) for argument in arguments], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert found["shape"] == [56, 1024]
    assert found["classified"]["val"]["mean_class_accuracy"] > 0.85  # red discs and blue squares
    assert found["classified"]["fitted"] == 32
    assert sum(map(sum, found["classified"]["test"]["confusion"])) == 8


def test_labels_decide_what_is_found(tmp_path: Path) -> None:
    """Features that know nothing of the labels tell nothing: a probe that looked at val's labels would show here."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    splits = np.array(["train"] * 200 + ["val"] * 200)
    about: dict[str, Any] = {"labels": labels, "splits": splits, "classes": np.array(["a", "b"])}
    np.savez(tmp_path / "noise.npz", features=rng.normal(size=(400, 8)).astype(np.float32), **about)
    np.savez(tmp_path / "clear.npz", features=labels[:, None] + rng.normal(0, 0.1, (400, 3)), **about)
    assert abs(probe(tmp_path / "noise.npz", "logistic").found["val"].accuracy - 0.5) < 0.15
    assert probe(tmp_path / "clear.npz", "knn").found["val"].accuracy == 1.0


def test_command_prints_what_it_wrote_and_refuses_what_it_cannot(
    small: Any, objects: Path, tmp_path: Path, skylight: Skylight
) -> None:
    cfg, weights, _ = small
    photos = objects / "images" / "val"
    base = ["features", cfg, "--layer", 4, "--data", photos, "--out", tmp_path / "f.npz"]
    done = skylight(*base, "--weights", weights)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'f.npz'}: 8 x 32 float32, layer 4 (maxpool) of {cfg}" in done.stdout
    (tmp_path / "f.npz").unlink()
    assert_refused(skylight(*base), "a cfg holds no weights", "--weights")
    assert "no data.yaml" in refusal(*base, "--weights", weights, "--crops")
    assert "0 classes in train" in refusal(*base, "--weights", weights, "--classify", "knn")
    assert "--pool sum" in refusal(*base, "--weights", weights, "--pool", "sum")
    assert not (tmp_path / "f.npz").exists()


def test_folder_of_a_trial_brings_its_network_and_weights(trained: Path, tmp_path: Path) -> None:
    trial = trained / "runs/small/first/scratch-f0-s0"
    subject = _subject(trial, 6, None)
    assert subject.weights_sha256 == file_sha256(trial / "best.weights")
    assert _features(subject, trained / "squares", tmp_path / "f.npz")["features"].shape == (32, 32)
    with pytest.raises(UserError, match="was trained with stretch"):
        _subject(trial, 6, None, resize="letterbox")


def test_folder_of_a_classifier_brings_its_size(studied: Path, objects: Path, tmp_path: Path) -> None:
    folder = studied / f"runs/objects/classify/{NETWORK}-scratch-s0"
    subject = _subject(folder, "fc", None)
    assert (subject.width, subject.height) == (32, 32)
    assert subject.weights_sha256 == file_sha256(folder / "best.safetensors")
    assert _features(subject, objects, tmp_path / "f.npz", smallest=8)["features"].shape == (56, 2)
    with pytest.raises(UserError, match=f"holds weights of {NETWORK}"):
        _subject("resnet18", 0, folder / "best.safetensors")
