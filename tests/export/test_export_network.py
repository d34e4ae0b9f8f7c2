"""Any network with its weights becomes a bundle for a board, with other sizes and precisions where asked for."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from drawn import Skylight, assert_refused

from deploy.bundle import read_bundle
from deploy.calibration_frames import bundle_calibration
from deploy.errors import UserError as DroneError
from pipeline.curated import read_curated_set
from pipeline.export.source import source_of_pair
from pipeline.files import locked_name
from pipeline.networks.families import architecture
from pipeline.report.bundle import export_text
from pipeline.train.dataset import load_images
from pipeline.train.pairing import Wish, read_pair
from pipeline.workspace import Workspace

TRIAL = "runs/small/second/first-f0-s0"


@pytest.fixture(scope="module")
def for_orin(trained: Path, skylight: Skylight, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trial's folder exported for an Orin Nano, at two sizes and in two precisions."""
    root = tmp_path_factory.mktemp("network")
    (root / "squares").symlink_to(trained / "squares")
    named = ("--board", "jetson-orin-nano", "--name", "sq", "--version", "0.2")
    asked = ("--fp16", "--extra-size", 96, "--calibration", 5, "--parity-pictures", 4)
    done = skylight("export", trained / TRIAL, *named, *asked, "--root", root)
    assert done.returncode == 0, done.stderr
    (root / "printed.txt").write_text(done.stdout)
    return root


def test_trial_is_exported_at_every_size_and_precision(for_orin: Path) -> None:
    found = read_bundle(for_orin / "bundles" / "sq-0.2")
    assert [(model.file, model.width, model.precision) for model in found.models] == [
        ("model.onnx", 64, "fp32"),
        ("model.fp16.onnx", 64, "fp16"),
        ("model.96.onnx", 96, "fp32"),
        ("model.96.fp16.onnx", 96, "fp16"),
    ]
    assert found.board["name"] == "jetson-orin-nano"
    assert found.board["precisions"] == ["fp32", "fp16", "int8"]
    assert [report["input"] for report in found.parity["inputs"]] == ["64x64", "96x96"]
    for report in found.parity["inputs"]:
        asked = {(one["against"].split()[0], one["precision"]) for one in report["comparisons"]}
        assert asked >= {("onnxruntime", "fp32"), ("onnxruntime", "fp16"), ("OpenCV", "fp32")}
        assert (report["pictures"], report["available"]) == (4, 8)
    printed = (for_orin / "printed.txt").read_text()
    assert "prove nothing" not in printed
    assert "PyTorch" in printed
    assert "at 96x96" in printed
    half = onnx.load(found.root / "model.fp16.onnx")
    assert any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in half.graph.initializer)


def test_calibration_frames_come_as_the_network_gets_them(for_orin: Path, trained: Path, bundle: Path) -> None:
    found = read_bundle(for_orin / "bundles" / "sq-0.2")
    frames = list(bundle_calibration(found).frames)
    assert len(frames) == 5
    train = read_curated_set(trained / "squares").splits["train"]
    data = load_images(train, 64, 64, "stretch")
    assert np.array_equal(np.rint(frames[0][0] * 255), data.images[0].numpy())
    assert np.array_equal(np.rint(frames[-1][0] * 255), data.images[-1].numpy())
    larger = next(iter(bundle_calibration(found.with_model("model.96.onnx")).frames))
    assert larger.shape == (1, 3, 96, 96)
    with pytest.raises(DroneError, match=r"no calibration frames.*--calibration"):
        bundle_calibration(read_bundle(bundle))


def test_history_of_a_trials_folder_is_told_without_its_experiment(for_orin: Path, skylight: Skylight) -> None:
    found = read_bundle(for_orin / "bundles" / "sq-0.2").provenance
    assert [step["kind"] for step in found["chain"]] == ["trial", "trial", "random"]
    assert found["checked_on"]["name"] == "squares"
    shown = skylight("bundle", "show", for_orin / "bundles" / "sq-0.2")
    assert shown.returncode == 0, shown.stderr
    assert "trained as small/second/first-f0-s0" in shown.stdout


def test_classes_are_called_as_they_were_trained(trained: Path, tmp_path: Path) -> None:
    """The set that it is checked on may name them otherwise, in another language for example."""
    shutil.copytree(trained / "squares", tmp_path / "squares")
    about = tmp_path / "squares/data.yaml"
    own = read_curated_set(trained / "squares").classes
    about.write_text(about.read_text().replace(own[0], "Quadrat"))
    assert read_curated_set(tmp_path / "squares").classes == ("Quadrat",)
    wish = Wish(network=str(trained / TRIAL), data=tmp_path / "squares")
    assert source_of_pair(read_pair(wish, Workspace(tmp_path))).classes == own


def test_golden_frames_of_every_model_are_found(for_orin: Path, skylight: Skylight) -> None:
    done = skylight("bundle", "verify", for_orin / "bundles" / "sq-0.2", "--golden")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("golden ") >= 4


def test_network_of_ultralytics_flies(trained: Path, skylight: Skylight, tmp_path: Path) -> None:
    detector = architecture("yolo11n", 64, 1).build()
    detector.save(tmp_path / "mine.safetensors", 0)
    named = ("yolo11n", "--weights", tmp_path / "mine.safetensors", "--data", trained / "squares", "--size", 64)
    done = skylight("export", *named, "--board", "jetson-tx2", "--root", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    bundle = read_bundle(Path(json.loads(done.stdout)["bundle"]))
    assert bundle.name == "squares"
    assert bundle.anchors == ()
    assert "they prove nothing in fp32" in export_text(bundle)  # random weights
    assert bundle.provenance["chain"][0]["name"] == "mine.safetensors"
    picture = next((trained / "squares/images/val").iterdir())
    flown = skylight("detect", "--bundle", bundle.root, "--source", picture, "--out", tmp_path / "out", "--quiet")
    assert flown.returncode == 0, flown.stderr


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--board", "jetson-tx3"), ("board jetson-tx3: unknown", "jetson-tx2")),
        (("--fp16",), ("workstation: fp16", "allowed: fp32")),
        (("--board", "jetson-tx2", "--calibration", 10), ("jetson-tx2: int8", "8-bit")),
        (("--extra-size", 70), ("70",)),
        (("--name", "a/b"), ("name", "letters, digits")),
        (("--resize", "letterbox"), ("was trained with stretch",)),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    trained: Path, skylight: Skylight, tmp_path: Path, options: tuple[object, ...], parts: tuple[str, ...]
) -> None:
    done = skylight("export", trained / TRIAL, *options, "--data", trained / "squares", "--root", tmp_path)
    assert_refused(done, *parts)
    assert not (tmp_path / "bundles").exists()


def test_a_bundle_of_other_weights_is_not_replaced(for_orin: Path, trained: Path, skylight: Skylight) -> None:
    other = trained / TRIAL.replace("first-f0", "first-f4")
    before = (for_orin / "bundles/sq-0.2/bundle.json").read_bytes()
    named = ("--board", "jetson-orin-nano", "--name", "sq", "--version")
    assert_refused(skylight("export", other, *named, "0.2", "--root", for_orin), "of other weights", "--version")
    assert (for_orin / "bundles/sq-0.2/bundle.json").read_bytes() == before
    assert skylight("export", other, *named, "0.3", "--root", for_orin).returncode == 0


def test_an_experiment_says_itself_what_is_exported(trained: Path, skylight: Skylight) -> None:
    done = skylight("export", trained / "experiment.yaml", "--size", 96, "--root", trained)
    assert_refused(done, "--size", "its key export")
    for option, default in (("--score-threshold", 0.25), ("--nms-threshold", 0.45), ("--calibration", 0)):
        done = skylight("export", trained / "experiment.yaml", option, default, "--root", trained)
        assert_refused(done, f"{option}: is for a network")
    done = skylight("export", trained / "experiment.yaml", "--parity-pictures", 0, "--root", trained)
    assert_refused(done, "--parity-pictures", "its key export")


def test_faster_rcnn_is_refused_in_one_line(trained: Path, skylight: Skylight, tmp_path: Path) -> None:
    detector = architecture("fasterrcnn_resnet50_fpn", 64, 1).build()
    detector.save(tmp_path / "frcnn.safetensors", 0)
    named = ("fasterrcnn_resnet50_fpn", "--weights", tmp_path / "frcnn.safetensors", "--size", 64)
    done = skylight("export", *named, "--data", trained / "squares", "--root", tmp_path)
    assert_refused(done, "fixed grid", "export a YOLO")


def test_two_exports_of_one_name_do_not_meet(trained: Path, skylight: Skylight, tmp_path: Path) -> None:
    shutil.copytree(trained / "squares", tmp_path / "squares")
    with locked_name(tmp_path / "bundles" / "sq-1"):
        done = skylight("export", trained / TRIAL, "--data", tmp_path / "squares", "--name", "sq", "--root", tmp_path)
    assert_refused(done, "sq-1: is being made by process", "wait until it is done")
    assert not (tmp_path / "bundles").exists()
