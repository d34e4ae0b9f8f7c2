"""Advice from short probes: what they may cost, what is vetoed, what is predicted and how surely."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import SMALL_CFG, Skylight, assert_refused, write_experiment

from pipeline.experiment import Start
from pipeline.networks.families import Architecture, architecture
from pipeline.score.advise import rate
from pipeline.score.cost import Cost, training_cost
from pipeline.score.prediction import (
    Calibration,
    Line,
    features,
    fit_line,
    predict,
    read_calibration,
    write_calibration,
)
from pipeline.score.probes import Arm, Probe

SECOND = {
    "name": "second",
    "data": "squares",
    "starts": ["scratch", "first"],
    "freeze": [0, 4, 7],
    "iterations": 400,
    "freeze_untrained": True,
}
FIRST = {"name": "first", "data": "squares", "iterations": 30, "evaluate_at": [10, 20]}


@pytest.fixture(scope="module")
def ready(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained experiment with a longer second stage that is not trained yet."""
    root = tmp_path_factory.mktemp("ready")
    shutil.copytree(trained / "runs/small/first", root / "runs/small/first")
    shutil.copytree(trained / "squares", root / "squares")
    write_experiment(root, stages=[FIRST, SECOND], export=None)
    return root


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Architecture:
    path = tmp_path_factory.mktemp("small") / "small.cfg"
    path.write_text(SMALL_CFG)
    return architecture(str(path), 64, 1)


def _advice(skylight: Skylight, root: Path, *options: object) -> dict[str, Any]:
    done = skylight("advise", root / "experiment.yaml", "--root", root, "--json", *options)
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    kept = root / "runs" / "small-advice" / f"{content['stage']}.json"
    assert json.loads(kept.read_text()) == content  # for the report
    return content


def test_cost_falls_with_what_is_frozen_and_is_one_with_nothing(small: Architecture) -> None:
    costs = [training_cost(small, frozen) for frozen in ((), (0, 1), (0, 1, 2, 3, 6))]
    assert costs[0] == Cost(1, 0)
    assert costs[0].of(50, 8, 24) == 50
    assert 50 > costs[1].of(50, 8, 24) > costs[2].of(50, 8, 24) > 0


def test_frozen_layers_run_once_per_view_of_every_photo() -> None:
    cost = Cost(learning=0.1, trunk=0.3)
    assert cost.of(5, 8, 24) == pytest.approx(5 * 0.1 + 0.3 * 2 * 24 / 8)  # 40 pictures: two rounds, two views
    assert cost.of(5, 2, 24) == pytest.approx(5 * 0.1 + 0.3 * 1 * 24 / 2)  # ten of a view that is made of all 24
    many = cost.of(960, 8, 24) / 960
    assert many == pytest.approx(0.1 + 0.3 / 8)  # each view is used eight times


def test_arms_are_probed_within_the_budget_and_the_rest_of_it_goes_to_the_best(ready: Path, skylight: Skylight) -> None:
    advice = _advice(skylight, ready)
    assert advice["cost"] <= 0.1 * advice["sweep_cost"] + 1e-6
    assert advice["cost"] > 0.08 * advice["sweep_cost"]
    first, last = advice["probes"][0]["iterations"], advice["probes"][-1]["iterations"]
    assert 5 <= first < last < 400
    assert len([probe for probe in advice["probes"] if probe["iterations"] == first]) == 4  # two are vetoed
    assert len(advice["arms"]) == 2
    best = max(advice["arms"], key=lambda arm: (arm["predicted_ap50"] or arm["ap50"], arm["ap50"], -arm["loss"]))
    assert advice["arms"][0] == best
    assert not (ready / "runs/small/second").exists()  # the sweep itself was not touched


def test_arms_that_freeze_what_was_never_trained_are_vetoed_with_the_layers(ready: Path, skylight: Skylight) -> None:
    vetoed = {row["arm"]: row["untrained"] for row in _advice(skylight, ready)["vetoed"]}
    assert vetoed == {"scratch-f4": [0, 1, 2, 3], "scratch-f7": [0, 1, 2, 3, 6]}
    done = skylight("advise", ready / "experiment.yaml", "--root", ready)
    assert "vetoed: scratch-f4 freezes layers that its start never trained (0, 1, 2, 3)" in done.stdout


def test_what_was_probed_is_not_probed_again(ready: Path, skylight: Skylight) -> None:
    first = _advice(skylight, ready)
    stamps = {path: path.stat().st_mtime_ns for path in (ready / "runs/small-advice").rglob("best.weights")}
    assert _advice(skylight, ready) == first
    assert {path: path.stat().st_mtime_ns for path in (ready / "runs/small-advice").rglob("best.weights")} == stamps


def test_layers_that_a_trial_never_trained_are_vetoed_also_where_its_file_is_named(
    ready: Path, skylight: Skylight, tmp_path: Path
) -> None:
    shutil.copytree(ready, tmp_path / "copy")
    trial = tmp_path / "copy/runs/small/first/scratch-f0-s0"
    content = json.loads((trial / "trial.json").read_text())
    content["result"]["trained_layers"] = [3, 6, 7, 12]
    (trial / "trial.json").write_text(json.dumps(content))
    starts = [{"name": "file", "weights": str(trial / "best.weights")}]
    file = write_experiment(tmp_path / "copy", stages=[SECOND | {"starts": starts}], export=None)
    done = skylight("advise", file, "--root", tmp_path / "copy", "--json")
    assert done.returncode == 0, done.stderr
    vetoed = {row["arm"]: row["untrained"] for row in json.loads(done.stdout)["vetoed"]}
    assert vetoed == {"file-f4": [0, 1, 2], "file-f7": [0, 1, 2]}
    stage = SECOND | {"starts": starts, "freeze": [4], "freeze_untrained": False}
    file = write_experiment(tmp_path / "copy", stages=[stage], export=None)
    assert_refused(skylight("train", file, "--root", tmp_path / "copy"), "start file", "0, 1, 2")
    for start in (trial, trial / "best.weights"):
        done = skylight("plan", ready / "squares", "--start", start, "--root", tmp_path / "copy", "--json")
        plan = json.loads(done.stdout)
        assert (plan["freeze"], plan["learning_rate"]) == (0, 0.001)


def test_an_earlier_stage_with_other_settings_is_refused(ready: Path, skylight: Skylight, tmp_path: Path) -> None:
    shutil.copytree(ready, tmp_path / "copy")
    file = write_experiment(tmp_path / "copy", stages=[FIRST, SECOND], export=None, learning_rate=0.001)
    done = skylight("advise", file, "--root", tmp_path / "copy")
    assert_refused(done, "first/scratch-f0-s0", "was trained with learning_rate=0.003")


def test_an_earlier_stage_that_is_not_trained_and_a_stage_that_is_none_are_refused(
    ready: Path, skylight: Skylight, tmp_path: Path
) -> None:
    file = write_experiment(tmp_path, stages=[FIRST, SECOND], export=None)
    assert_refused(skylight("advise", file, "--root", tmp_path), "first/scratch-f0-s0", "train")
    done = skylight("advise", ready / "experiment.yaml", "--root", ready, "--stage", "third")
    assert_refused(done, "--stage third: no stage of small", "first, second")


def _probe(ap50: float, frozen: bool = False) -> Probe:
    arm = Arm(Start(name="a"), 0, (0,) if frozen else (), (), Cost(0.3 if frozen else 1.0, 0), 200, 16, 20)
    return Probe(arm, 20, ap50, 1.0, 6.0, 1.0)


def _measured(rounds: int, noise: float) -> tuple[list[list[float]], list[float], list[str]]:
    """Rounds of four probes whose ends lie on a line, but for noise of that deviation."""
    rng = np.random.default_rng(0)
    rows, ends, groups = [], [], []
    for number in range(rounds):
        probes = [_probe(rng.uniform(0, 0.5), bool(frozen)) for frozen in (0, 0, 1, 1)]
        rows += features(probes)
        ends += [float(end) for end in np.array(features(probes)) @ (0.1, 0.3, 0.4) + noise * rng.standard_normal(4)]
        groups += [f"target {number % 6}"] * 4
    return rows, ends, groups


def test_what_lies_on_a_line_is_predicted_and_the_interval_is_as_wide_as_the_noise() -> None:
    line = fit_line(*_measured(100, 0.05))
    best, frozen = predict(line, [_probe(0.36), _probe(0.25, frozen=True)])
    assert best is not None
    assert frozen is not None
    assert best.ap50 == pytest.approx(0.1 + 0.3 * 0.6 + 0.4 * 0.6, abs=0.03)
    assert frozen.ap50 == pytest.approx(0.1 + 0.3 * 0.5 + 0.4 * 0.6 * 0.3, abs=0.03)
    assert best.high - best.low == pytest.approx(2 * 1.2816 * 0.05, rel=0.2)  # 80 % of a normal one
    assert (line.probes, line.targets) == (400, 6)


def test_interval_is_of_targets_that_the_fit_did_not_see() -> None:
    rows, ends, groups = _measured(30, 0.0)
    shifted = [end + (0.2 if group == "target 0" else 0.0) for end, group in zip(ends, groups, strict=True)]
    assert fit_line(rows, shifted, groups).high > 0.1


def test_prediction_stays_between_nothing_and_everything() -> None:
    (prediction,) = predict(Line((2.0, 0, 0), -3.0, 0.1, 1, 1), [_probe(0.5)])
    assert prediction is not None
    assert (prediction.ap50, prediction.low, prediction.high) == (1.0, 0.0, 1.0)


def test_frozen_layers_lead_early_and_are_not_advised_for_that() -> None:
    """A short training flatters what is frozen; the line knows from other targets how much learning all brings."""
    line = fit_line(*_measured(100, 0.0))
    probes = [_probe(0.30, frozen=True), _probe(0.28)]
    assert rate(probes, None)[0].probe.arm.frozen
    assert not rate(probes, line)[0].probe.arm.frozen


def test_calibration_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calibration = Calibration(fit_line(*_measured(20, 0.1)), fit_line(*_measured(10, 0.2)))
    write_calibration(calibration, tmp_path / "calibration.json")
    monkeypatch.setattr("pipeline.score.prediction._FILE", tmp_path / "calibration.json")
    assert read_calibration() == calibration
