"""What a user can get wrong: one line that names it, exit status 2, nothing half-written."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from drawn import assert_refused, write_experiment


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("good")
    write_experiment(root)
    return root


@pytest.fixture
def workspace(good: Path, tmp_path: Path) -> Path:
    shutil.copytree(good, tmp_path / "w")
    return tmp_path / "w"


def _edited(workspace: Path, **changes: object) -> Path:
    file = workspace / "experiment.yaml"
    content = yaml.safe_load(file.read_text())
    content.update(changes)
    file.write_text(yaml.safe_dump({key: value for key, value in content.items() if value != "gone"}))
    return file


STAGE = {"name": "first", "data": "squares", "iterations": 5}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"sizes": 64}, ("unknown key sizes: 64", "allowed here:", "size,")),
        ({"size": 100}, ("size=100 is no multiple of 32", "96")),
        ({"size": "big"}, ("size: found 'big'", "integer")),
        ({"name": "gone"}, ("key name is missing",)),
        ({"resize": "crop"}, ("resize: found 'crop'", "'stretch' or 'letterbox'")),
        ({"network": "yolov9"}, ("yolov9: no such model", "yolo11n")),
        ({"network": "missing.cfg"}, ("missing.cfg", "No such file")),
        ({"stages": []}, ("stages is empty",)),
        ({"seeds": []}, ("seeds is []",)),
        ({"stages": [STAGE | {"freeze": []}]}, ("freeze is []",)),
        ({"stages": [STAGE | {"freeze": [0, 0]}]}, ("freeze is [0, 0]", "each once")),
        ({"network": "darknet19"}, ("has no [yolo] layer",)),
        ({"data": {"squares": {"path": "squares", "source": "x"}}}, ("source goes with recipe",)),
        ({"stages": [STAGE | {"data": "nothing"}]}, ("stage first: data=nothing is unknown", "allowed: squares")),
        ({"stages": [STAGE | {"starts": ["coco"]}]}, ("start coco is no earlier stage", "allowed: scratch")),
        ({"stages": [STAGE | {"iterations": 0}]}, ("stages.0.iterations: found 0",)),
        ({"stages": [STAGE | {"evaluate_at": [9]}]}, ("evaluate_at goes beyond iterations=5",)),
        ({"stages": [STAGE | {"frezze": [13]}]}, ("unknown key stages.0.frezze", "freeze")),
        ({"augment": {"jitter": 0.7}}, ("augment.jitter: found 0.7",)),
        ({"export": {"stage": "third", "name": "x"}}, ("export: stage third is unknown",)),
        ({"data": {"squares": {}}}, ("give either recipe",)),
        ({"data": {"squares": {"path": "nowhere"}}}, ("nowhere", "is not there", "correct its path")),
        (
            {"stages": [STAGE | {"starts": [{"name": "coco", "weights": "coco.weights"}]}], "export": None},
            ("coco.weights", "No such file"),
        ),
    ],
)
def test_wrong_experiment_is_refused(workspace, skylight, changes, parts):
    done = skylight("train", _edited(workspace, **changes), "--root", workspace)
    assert_refused(done, *parts)
    assert not (workspace / "runs").exists()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a: [1", ("not YAML",)),
        ("- 1\n- 2\n", ("holds no mapping",)),
        ("", ("holds no mapping",)),
    ],
)
def test_file_that_is_no_experiment_is_refused(tmp_path, skylight, text, parts):
    file = tmp_path / "e.yaml"
    file.write_text(text)
    for verb in ("curate", "train", "export"):
        assert_refused(skylight(verb, file, "--root", tmp_path), str(file), *parts)
    assert list(tmp_path.iterdir()) == [file]


def test_missing_experiment_is_refused(tmp_path, skylight):
    assert_refused(skylight("train", tmp_path / "none.yaml"), "none.yaml", "No such file")


LABEL = Path("squares/labels/train/train000.txt")
PICTURE = Path("squares/images/train/train000.png")


@pytest.mark.parametrize(
    ("file", "content", "parts"),
    [
        (LABEL, "one two three four five\n", (LABEL.name, "1")),
        (LABEL, "0 0.5 0.5 0.2\n", (LABEL.name,)),
        (LABEL, "0 0.95 0.5 0.2 0.2\n", (LABEL.name,)),
        (LABEL, "7 0.5 0.5 0.2 0.2\n", (LABEL.name, "7")),
        (LABEL, "0 0.5 nan 0.2 0.2\n", (LABEL.name,)),
        (PICTURE, "no picture", (PICTURE.name,)),
        (Path("squares/data.yaml"), "names: [square]\n", ("data.yaml", "train")),
    ],
)
def test_wrong_data_are_refused(workspace, skylight, file, content, parts):
    (workspace / file).write_text(content)
    done = skylight("train", workspace / "experiment.yaml", "--root", workspace)
    assert_refused(done, *parts)
    assert not (workspace / "runs").exists()


def test_picture_that_breaks_off_is_refused(workspace, skylight):
    data = (workspace / PICTURE).read_bytes()
    (workspace / PICTURE).write_bytes(data[: len(data) // 8])
    done = skylight("train", workspace / "experiment.yaml", "--root", workspace)
    assert_refused(done, PICTURE.name, "truncated")
    assert not list((workspace).glob("runs/**/*.weights"))


def test_set_without_boxes_is_refused(workspace, skylight):
    for label in (workspace / "squares/labels/train").iterdir():
        label.write_text("")
    done = skylight("train", workspace / "experiment.yaml", "--root", workspace)
    assert_refused(done, "no box in the train split")


def test_loss_that_is_not_finite_stops_and_keeps_the_last_good_weights(workspace, skylight):
    stages = [{"name": "first", "data": "squares", "iterations": 60, "evaluate_at": [1], "learning_rate": 1e6}]
    done = skylight("train", _edited(workspace, stages=stages, export=None), "--root", workspace)
    assert_refused(done, "the loss is", "iteration", "lower learning_rate")
    assert (workspace / "runs/small/first/scratch-f0-s0/best.weights").exists()


def test_start_with_other_classes_says_how_to_take_the_backbone(workspace, skylight):
    two = workspace / "two"
    shutil.copytree(workspace / "squares", two)
    (two / "data.yaml").write_text(yaml.safe_dump({"train": "images/train", "val": "images/val", "names": ["a", "b"]}))
    stages = [
        {"name": "first", "data": "two", "iterations": 2},
        {"name": "second", "data": "squares", "starts": ["first"], "iterations": 2},
    ]
    data = {"squares": {"path": "squares"}, "two": {"path": "two"}}
    done = skylight("train", _edited(workspace, stages=stages, data=data, export=None), "--root", workspace)
    assert_refused(done, "stage second, start first", "2 classes", "layers: 15")


def test_curating_an_empty_folder_is_refused(tmp_path, skylight):
    root = Path(__file__).resolve().parents[1]
    (tmp_path / "empty").mkdir()
    file = tmp_path / "e.yaml"
    content = {
        "name": "x",
        "data": {"arch": {"recipe": str(root / "datasets/facades-arch.yaml"), "source": "empty"}},
        "stages": [STAGE | {"data": "arch"}],
    }
    file.write_text(yaml.safe_dump(content))
    assert_refused(skylight("curate", file, "--root", tmp_path), "empty")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.yaml", "empty"]


def test_unknown_command_is_refused(skylight):
    assert skylight("fly").returncode == 2


def test_option_that_is_missing_ends_with_one_stop(skylight):
    assert_refused(skylight("export", "lint", "x.onnx"), "Missing option '--board'; see")


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        ("KeyboardInterrupt", 130, "skylight: stopped: no bundle was written; the same command begins again"),
        ("OSError(28, 'No space left on device')", 2, "skylight: no space left here or in "),
    ],
)
def test_what_ends_a_command_is_said(error, status, message):
    code = (
        "import sys, pipeline.cli, pipeline.exporting\n"
        f"def end(*_): raise {error}\n"
        "pipeline.exporting.export_network = end\n"
        "sys.argv = ['skylight', 'export', 'my.cfg']\n"
        "pipeline.cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert done.stderr.strip().startswith(message)


def test_date_that_is_none_is_refused(tmp_path, skylight):
    (tmp_path / "e.yaml").write_text("description: 2024-13-45\n")
    assert_refused(skylight("train", tmp_path / "e.yaml"), "e.yaml", "not YAML")
