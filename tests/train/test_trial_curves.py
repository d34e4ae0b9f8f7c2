"""`skylight curves`, and the experiment on KITTI's cars whose figures it prints."""

import json
from pathlib import Path

import pytest
from drawn import Skylight, assert_refused, draw_set

from pipeline.errors import UserError
from pipeline.experiment import read_experiment
from pipeline.train.stages import plan_trials
from pipeline.workspace import Workspace

KITTI = Path(__file__).resolve().parents[2] / "experiments" / "kitti-cars.yaml"


def test_four_figures_of_every_evaluation_are_printed_and_drawn(
    trained: Path, tmp_path: Path, skylight: Skylight
) -> None:
    trials = [trained / "runs/small" / name for name in ("first/scratch-f0-s0", "second/first-f4-s0")]
    done = skylight("curves", *trials, "--plot", tmp_path / "curves.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    lines = done.stdout.splitlines()
    assert lines[0] == "small/first/scratch-f0-s0"
    assert lines[1].split() == ["iteration", "precision", "%", "recall", "%", "AP", "%", "F1", "%"]
    rows = [json.loads(line) for line in (trials[0] / "metrics.jsonl").read_text().splitlines()]
    measured = [row["evaluation"] for row in rows if "evaluation" in row]
    for line, row in zip(lines[3:6], measured, strict=True):
        figures = [f"{100 * row[key]:.2f}" for key in ("precision", "recall", "ap50", "f1")]
        assert line.split()[:5] == [str(row["iteration"]), *figures]
    (best,) = [line for line in lines[3:6] if "best AP" in line]
    assert int(best.split()[0]) == max(measured, key=lambda row: row["ap50"])["iteration"]
    found = json.loads(skylight("curves", *trials, "--json").stdout)
    assert found[0]["evaluations"] == measured


def test_what_is_no_trial_is_refused(tmp_path: Path, trained: Path, skylight: Skylight) -> None:
    assert_refused(skylight("curves", tmp_path), "trial.json: no such file")
    trial = trained / "runs/small/first/scratch-f0-s0"
    assert_refused(skylight("curves", trial, "--plot", tmp_path / "curves.txt"), "no picture ends in .txt")


def test_kitti_experiment_measures_every_five_epochs_from_both_starts(tmp_path: Path, skylight: Skylight) -> None:
    assert_refused(skylight("train", KITTI, "--root", tmp_path), "kitti-cars", "run skylight curate")
    experiment = read_experiment(KITTI)
    data = draw_set(tmp_path / "data" / "kitti-cars", train=2, val=1)
    plan = plan_trials(experiment, Workspace(tmp_path))
    assert [trial.name for trial in plan] == ["cars/scratch-f0-s0", "cars/coco-f0-s0"]
    scratch, coco = plan
    assert scratch.data.root == data
    assert scratch.trained == ()
    # Everything before the first head, which begins with its last convolution, 81.
    assert max(coco.trained) == 80
    assert coco.trained == tuple(index for index in coco.network.outline().weighted_layers if index < 81)
    assert scratch.stage.evaluation_points == tuple(range(125, 5001, 125))


def test_a_trial_that_was_not_measured_yet_is_refused(tmp_path: Path, trained: Path) -> None:
    from pipeline.report.trial_curves import read_curve

    settings = json.loads((trained / "runs/small/first/scratch-f0-s0/trial.json").read_text())
    (tmp_path / "trial.json").write_text(json.dumps(settings | {"result": None}))
    with pytest.raises(UserError, match="nothing was measured yet"):
        read_curve(tmp_path)
