"""The classifier study through the command, on drawn objects that a small network learns in seconds."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn import Skylight, assert_refused, draw_set
from drawn_objects import NETWORK, OPTIONS, draw_objects, pretrained_from, refusal
from safetensors.torch import load_file

from pipeline import cli

TRAININGS = Path("runs/objects/classify")


def _result(root: Path, technique: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / TRAININGS / f"{NETWORK}-{technique}-s0/result.json").read_text())
    return content["result"]


def test_a_training_leaves_figures_weights_and_plots(studied: Path) -> None:
    folder = studied / TRAININGS / f"{NETWORK}-scratch-s0"
    names = ["best.safetensors", "confusion.png", "curves.png", "last.safetensors", "metrics.jsonl", "result.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    result = _result(studied, "scratch")
    assert result["crops"] == {"train": 32, "val": 16, "test": 8}
    assert result["too_small"] == {"train": 16, "val": 8, "test": 4}
    assert result["val"]["mean_class_accuracy"] > 0.9  # red discs and blue squares
    assert sum(map(sum, result["test"]["confusion"])) == 8
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 11))
    assert rows[-1]["train_loss"] < 0.5 * rows[0]["train_loss"]
    best = max(rows, key=lambda row: row["mean_f1"])
    assert result["best_epoch"] == best["epoch"]
    assert result["val"]["mean_f1"] == pytest.approx(best["mean_f1"])


def test_frozen_changes_the_head_alone_and_finetuned_everything(studied: Path) -> None:
    start = torch.load(studied / "published.pth", weights_only=True)
    frozen = load_file(studied / TRAININGS / f"{NETWORK}-frozen-s0/last.safetensors")
    finetuned = load_file(studied / TRAININGS / f"{NETWORK}-finetuned-s0/last.safetensors")
    body = [key for key in start if not key.startswith("fc.")]
    assert all(torch.equal(frozen[key], start[key]) for key in body)
    assert not torch.equal(finetuned["conv1.0.weight"], start["conv1.0.weight"])
    assert frozen["fc.weight"].shape == (2, 1024)
    losses = [
        json.loads(line)["train_loss"]
        for line in (studied / TRAININGS / f"{NETWORK}-frozen-s0/metrics.jsonl").read_text().splitlines()
    ]
    assert losses[-1] < losses[0]


def test_kept_features_are_those_of_the_weights_that_were_written(studied: Path, objects: Path) -> None:
    """What a frozen training measured on features it kept is what the whole network says of the crops."""
    from pipeline.curated import read_curated_set
    from pipeline.score.classifiers import classifier, read_tensors
    from pipeline.score.crops import cut_crops

    path = studied / TRAININGS / f"{NETWORK}-frozen-s0/last.safetensors"
    model = classifier(NETWORK, 2, 32).eval()
    model.load(path, read_tensors(path)[0], with_head=True)
    crops = cut_crops(read_curated_set(objects).splits["val"], 32, 32, 8)
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(model(crops.pixels.float() / 255), crops.labels)
    rows = path.with_name("metrics.jsonl").read_text().splitlines()
    assert float(loss) == pytest.approx(json.loads(rows[-1])["val_loss"], rel=1e-3)


def test_kept_features_train_as_running_the_frozen_layers_each_time(
    studied: Path, objects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mirrored crops too, half of each epoch. The start is trained: random layers see no difference in a mirror."""
    from pipeline.score.classifiers import Classifier

    start = studied / TRAININGS / f"{NETWORK}-finetuned-s0/last.safetensors"
    losses = []
    for name in ("kept", "not"):
        options = [*OPTIONS, "--technique", "frozen", "--pretrained", f"{NETWORK}={start}", "--root", tmp_path / name]
        cli.app([str(option) for option in ("classify", objects, *options)], standalone_mode=False)
        rows = (tmp_path / name / TRAININGS / f"{NETWORK}-frozen-s0/metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(row)["train_loss"] for row in rows])
        monkeypatch.setattr(Classifier, "before_head", lambda self, images: None)  # as where the head is not last
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_tables_and_json_say_what_was_measured(studied: Path, objects: Path, skylight: Skylight) -> None:
    printed = (studied / "printed.txt").read_text()
    for part in ("accuracy per class, %", "rows are the labels", "16", f"learning curves of {NETWORK} scratch"):
        assert part in printed
    rows = {line.split()[1]: line.split() for line in printed.splitlines() if line.startswith(NETWORK)}
    assert rows["scratch"][0] == NETWORK
    stamps = {path: path.stat().st_mtime_ns for path in studied.rglob("*.*")}
    done = skylight("classify", objects, *OPTIONS, *pretrained_from(studied), "--json", "--root", studied)
    records = json.loads(done.stdout)
    assert [record["settings"]["technique"] for record in records] == ["scratch", "frozen", "finetuned"]
    assert records[0]["result"] == _result(studied, "scratch")
    assert {path: path.stat().st_mtime_ns for path in studied.rglob("*.*")} == stamps  # nothing trained or drawn again


def test_changed_settings_data_or_weights_are_refused(
    studied: Path, objects: Path, tmp_path: Path, skylight: Skylight
) -> None:
    here = ["--technique", "scratch", "--root", studied]
    done = skylight("classify", objects, *OPTIONS[:-1], "0.003", *here)
    assert_refused(done, "learning_rate=0.002", "0.003", "scratch-s0")
    other = draw_objects(tmp_path / "objects", {"train": 4, "val": 2}, seed=1)
    assert "data_hash=" in refusal("classify", other, *OPTIONS, *here)
    shutil.copytree(studied, tmp_path / "root")
    (tmp_path / "root" / TRAININGS / f"{NETWORK}-scratch-s0/best.safetensors").write_bytes(b"x")
    found = refusal("classify", objects, *OPTIONS, "--technique", "scratch", "--root", tmp_path / "root")
    assert "best.safetensors: not the file that training wrote" in found


@pytest.mark.long
def test_a_stopped_training_resumes_to_the_same_numbers(
    studied: Path, objects: Path, tmp_path: Path, skylight: Skylight
) -> None:
    options = [*OPTIONS, "--technique", "finetuned", *pretrained_from(studied)]
    folder = tmp_path / TRAININGS / f"{NETWORK}-finetuned-s0"
    command = [str(Path(sys.executable).with_name("skylight")), "classify", str(objects), *options]
    process = subprocess.Popen([*command, "--root", str(tmp_path)], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not (folder / "metrics.jsonl").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "kept up to epoch" in errors
    assert not (folder / "best.safetensors").exists()
    done = skylight("classify", objects, *options, "--root", tmp_path)
    assert done.returncode == 0, done.stderr
    unbroken = studied / TRAININGS / folder.name
    for name in ("best.safetensors", "last.safetensors"):
        assert (folder / name).read_bytes() == (unbroken / name).read_bytes(), name
    assert not list(folder.glob(".*")) + list(folder.glob("state.pt"))


def test_several_seeds_share_a_row(objects: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--network", NETWORK, "--size", "32", "--epochs", "1", "--technique", "scratch", "--name", "two"]
    command = ["classify", str(objects), *options, "--seed", "0", "--seed", "1", "--root", str(tmp_path)]
    cli.app(command, standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if line.startswith(NETWORK) and "0,1" in line]
    assert "±" in row
    weights = [tmp_path / f"runs/two/classify/{NETWORK}-scratch-s{seed}/last.safetensors" for seed in (0, 1)]
    assert weights[0].read_bytes() != weights[1].read_bytes()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--technique", "half"], ("--technique half", "scratch, frozen, finetuned")),
        (["--network", "resnet99", "--technique", "scratch"], ("resnet99", "no classifier of torchvision")),
        (["--technique", "scratch", "--smallest", "500"], ("0 objects in train, 48 too small", "--smallest")),
        (["--pretrained", "resnet18"], ("--pretrained resnet18", "resnet18=resnet18.pth")),
        (["--technique", "scratch", "--pretrained", "resnet18=none.pth"], ("--pretrained", "random weights")),
        (["--name", "../up"], ("--name ../up", "letters")),
    ],
)
def test_wishes_that_cannot_be_met_are_one_line(
    options: list[str], parts: tuple[str, ...], objects: Path, tmp_path: Path
) -> None:
    base = [] if "--network" in options else ["--network", NETWORK]
    found = refusal("classify", objects, *base, "--size", 32, *options, "--root", tmp_path)
    assert all(part in found for part in parts), found
    assert not (tmp_path / "runs").exists()


def test_one_class_is_no_study(tmp_path: Path, skylight: Skylight) -> None:
    done = skylight("classify", draw_set(tmp_path / "squares"), "--technique", "scratch", "--root", tmp_path)
    assert_refused(done, "squares: has one class, square", "two classes at least")
    assert not (tmp_path / "runs").exists()
