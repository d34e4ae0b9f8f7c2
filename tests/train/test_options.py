"""What an experiment can ask of training, through the command, on a network that trains in seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from drawn import Skylight, assert_refused, write_experiment

from pipeline.files import locked_folder


def _train(root: Path, skylight: Skylight, stage: dict[str, Any], **changes: object) -> Path:
    """Train one stage; returns the folder of its first trial."""
    stages = [{"name": "first", "data": "squares", "iterations": 40, "evaluate_at": [10, 20, 30], **stage}]
    done = skylight("train", write_experiment(root, stages=stages, export=None, **changes), "--root", root)
    assert done.returncode == 0, done.stderr
    return sorted((root / "runs/small/first").glob("*-s0"))[0]


def _result(trial: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((trial / "trial.json").read_text())["result"]
    return content


def test_weights_are_kept_every_so_many_iterations(tmp_path: Path, skylight: Skylight) -> None:
    trial = _train(tmp_path, skylight, {"checkpoint_every": 15})
    assert [path.name for path in sorted((trial / "checkpoints").iterdir())] == ["000015.weights", "000030.weights"]


def test_a_trial_that_gets_no_better_ends_early_and_says_so(tmp_path: Path, skylight: Skylight) -> None:
    trial = _train(tmp_path, skylight, {"stop_early": {"patience": 2, "min_delta": 0.99}, "learning_rate": 1e-6})
    result = _result(trial)
    assert result["stopped_early"]
    # The first evaluation always betters nothing at all; two more in a row bring nothing.
    assert result["iterations"] == 30
    assert not (trial / "state.pt").exists()


def test_best_weights_are_best_by_what_was_asked(tmp_path: Path, skylight: Skylight) -> None:
    trial = _train(tmp_path, skylight, {"iterations": 60, "evaluate_at": list(range(5, 60, 5))}, best_by="f1")
    rows = [json.loads(line) for line in (trial / "metrics.jsonl").read_text().splitlines()]
    evaluations = [row["evaluation"] for row in rows if "evaluation" in row]
    assert _result(trial)["best_iteration"] == max(evaluations, key=lambda row: row["f1"])["iteration"]


def test_average_weights_are_what_is_measured_and_kept(tmp_path: Path, skylight: Skylight) -> None:
    plain = _train(tmp_path / "plain", skylight, {})
    averaged = _train(tmp_path / "averaged", skylight, {}, ema=0.99)
    losses = [[json.loads(line).get("loss") for line in (t / "metrics.jsonl").open()] for t in (plain, averaged)]
    assert losses[0] == losses[1]  # training itself is the same
    assert (plain / "last.weights").read_bytes() != (averaged / "last.weights").read_bytes()


@pytest.mark.long
@pytest.mark.parametrize("changes", [{"subdivisions": 2}, {"augment": {"mosaic": 1.0}}, {"precision": "bfloat16"}])
def test_options_train(tmp_path: Path, skylight: Skylight, changes: dict[str, object]) -> None:
    trial = _train(tmp_path, skylight, {"iterations": 200, "evaluate_at": []}, **changes)
    rows = [json.loads(line) for line in (trial / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < 0.5 * losses[0]


def test_kept_features_give_what_the_frozen_layers_give_each_time(tmp_path: Path, skylight: Skylight) -> None:
    """Within rounding: the frozen layers see other pictures together."""
    figures = []
    for name, limit in (("kept", None), ("not", 0)):
        stages = [
            {"name": "first", "data": "squares", "iterations": 60},
            {"name": "second", "data": "squares", "starts": ["first"], "freeze": [4], "iterations": 60},
        ]
        root = tmp_path / name
        file = write_experiment(root, stages=stages, export=None, precision="float32", feature_cache_gib=limit, views=3)
        assert skylight("train", file, "--root", root).returncode == 0
        trial = root / "runs/small/second/first-f4-s0"
        assert _result(trial)["feature_cache"] == ("memory" if name == "kept" else None)
        rows = [json.loads(line) for line in (trial / "metrics.jsonl").read_text().splitlines()]
        figures.append([row["loss"] for row in rows if "loss" in row])
    assert figures[0] == pytest.approx(figures[1], rel=1e-3)


def test_tensorboard_and_mlflow_get_the_same_figures(
    tmp_path: Path, skylight: Skylight, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stages = [{"name": "first", "data": "squares", "iterations": 40, "evaluate_at": [20]}]
    file = write_experiment(tmp_path, stages=stages, export=None)
    store = (tmp_path / "mlruns").as_uri()
    files = {"MLFLOW_TRACKING_URI": store, "MLFLOW_ALLOW_FILE_STORE": "true"}
    done = skylight("train", file, "--root", tmp_path, env=os.environ | files)
    assert done.returncode == 0, done.stderr
    trial = tmp_path / "runs/small/first/scratch-f0-s0"
    rows = [json.loads(line) for line in (trial / "metrics.jsonl").read_text().splitlines()]
    expected = {row["iteration"]: row["loss"] for row in rows if "loss" in row}
    aps = {row["evaluation"]["iteration"]: row["evaluation"]["ap50"] for row in rows if "evaluation" in row}
    events = EventAccumulator(str(trial / "events"))
    events.Reload()
    assert {e.step: e.value for e in events.Scalars("train/loss")} == pytest.approx(expected)
    assert {e.step: e.value for e in events.Scalars("val/ap50")} == pytest.approx(aps)

    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("skylight/small")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert {metric.step: metric.value for metric in history} == pytest.approx(expected)
    assert run.data.params["freeze"] == "0"
    assert run.info.status == "FINISHED"


def test_one_refused_trial_lets_those_that_do_not_need_it_finish(tmp_path: Path, skylight: Skylight) -> None:
    stages = [
        {"name": "bad", "data": "squares", "iterations": 5, "learning_rate": 1e30},
        {"name": "after", "data": "squares", "starts": ["bad"], "iterations": 5},
        {"name": "good", "data": "squares", "iterations": 5},
    ]
    done = skylight("train", write_experiment(tmp_path, stages=stages, export=None), "--root", tmp_path)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert all(part in last for part in ("bad/scratch-f0-s0", "the loss is", "(2 trials are not trained)")), last
    assert _result(tmp_path / "runs/small/good/scratch-f0-s0")["iterations"] == 5
    # Nothing was kept of the refused one, so it may be begun with other settings.
    stages[0]["learning_rate"] = 0.001
    done = skylight("train", write_experiment(tmp_path, stages=stages, export=None), "--root", tmp_path)
    assert done.returncode == 0, done.stderr


def test_precision_that_another_machine_chose_is_no_reason_to_train_again(tmp_path: Path, skylight: Skylight) -> None:
    trial = _train(tmp_path, skylight, {}, precision="float32")
    before = (trial / "best.weights").read_bytes()
    _train(tmp_path, skylight, {}, precision="auto")
    assert (trial / "best.weights").read_bytes() == before


def test_early_stop_that_could_never_fire_is_refused(tmp_path: Path, skylight: Skylight) -> None:
    stage = {"name": "first", "data": "squares", "iterations": 40, "stop_early": {"patience": 5}}
    done = skylight("train", write_experiment(tmp_path, stages=[stage], export=None), "--root", tmp_path)
    assert_refused(done, "patience=5 can never end a trial of 1 evaluations", "evaluate_every")


def test_a_second_process_in_the_same_trial_is_refused(tmp_path: Path, skylight: Skylight) -> None:
    stages = [{"name": "first", "data": "squares", "iterations": 5}]
    file = write_experiment(tmp_path, stages=stages, export=None)
    with locked_folder(tmp_path / "runs/small/first/scratch-f0-s0"):
        done = skylight("train", file, "--root", tmp_path)
    assert_refused(done, "scratch-f0-s0", "another process works in it")
    assert skylight("train", file, "--root", tmp_path).returncode == 0


def _train_in_little_memory(root: Path, gib: float, **changes: object) -> subprocess.CompletedProcess[str]:
    """Train one iteration where a batch of 96 at once is too much, with so much memory beside the imported code.

    The limit is on addresses, and memory that glibc keeps for later has its addresses still: here it keeps none.
    """
    stages = [{"name": "first", "data": "squares", "iterations": 1}]
    file = write_experiment(root, stages=stages, export=None, size=608, batch=96, precision="float32", **changes)
    code = (
        "import resource, sys, torch, pipeline.train.loop, pipeline.cli\n"
        "pipeline.train.loop.keep_freed_memory = lambda: None\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (used + int({gib} * 2**30),) * 2)\n"
        "sys.argv = ['skylight', 'train', *sys.argv[1:]]\n"
        "pipeline.cli.main()\n"
    )
    command = [sys.executable, "-c", code, str(file), "--root", str(root)]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.long
def test_too_little_memory_is_one_line_that_says_what_to_lower(tmp_path: Path) -> None:
    done = _train_in_little_memory(tmp_path, 1.5, subdivisions=1)
    assert_refused(done, "too little memory", "batch 96 in 1 subdivisions", "set subdivisions: 2")


@pytest.mark.long
def test_too_little_memory_is_met_with_subdivisions_where_their_number_is_open(tmp_path: Path) -> None:
    done = _train_in_little_memory(tmp_path, 3.0)
    assert done.returncode == 0, done.stderr
    trial = tmp_path / "runs/small/first/scratch-f0-s0"
    subdivisions = json.loads((trial / "trial.json").read_text())["settings"]["subdivisions"]
    assert subdivisions > 1
    said = [line for line in done.stderr.splitlines() if "too little memory" in line]
    assert said[-1] == f"first/scratch-f0-s0: too little memory, next with {subdivisions} subdivisions"
    assert [row["iteration"] for row in map(json.loads, (trial / "metrics.jsonl").open()) if "loss" in row] == [1]
    again = _train_in_little_memory(tmp_path, 3.0)
    assert again.returncode == 0
    assert "too little memory" not in again.stderr


def test_classes_of_another_number_need_to_be_told_where_the_head_begins(tmp_path: Path, skylight: Skylight) -> None:
    from pipeline.darknet import DarknetNetwork, adapted, read_cfg, save_weights

    file = write_experiment(tmp_path)
    weights = tmp_path / "other.weights"
    save_weights(DarknetNetwork(adapted(read_cfg(tmp_path / "small.cfg"), 64, 64, 3)), weights)
    for start, is_good in (({}, False), ({"layers": 7}, True)):
        stages = [
            {
                "name": "first",
                "data": "squares",
                "iterations": 5,
                "starts": [{"name": "other", "weights": "other.weights", **start}],
            }
        ]
        write_experiment(tmp_path, stages=stages, export=None)
        done = skylight("train", file, "--root", tmp_path)
        if is_good:
            assert done.returncode == 0, done.stderr
        else:
            assert_refused(done, "stage first, start other", "other.weights", "number of classes", "layers: ")
