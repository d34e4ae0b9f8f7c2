"""`skylight score` on an experiment that was really trained: null tasks, scores.json, plots, and going on."""

import json
import shutil
from pathlib import Path

import pytest
from drawn import Skylight, assert_refused, draw_set, write_experiment

from pipeline.score.scores import Scores, read_scores

STAGES = [
    {"name": "first", "data": "squares", "iterations": 12},
    {
        "name": "second",
        "data": "others",
        "starts": ["scratch", "first", {"name": "part", "stage": "first", "layers": 7}],
        "freeze": [0, 4],
        "freeze_untrained": True,
        "iterations": 8,
        "seeds": [0, 1],
    },
]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, skylight: Skylight) -> tuple[Path, str]:
    """A folder with a finished experiment that was scored, and what the command printed."""
    root = tmp_path_factory.mktemp("scored")
    draw_set(root / "others", train=12, val=4, seed=5)
    data = {"squares": {"path": "squares"}, "others": {"path": "others"}}
    file = write_experiment(root, stages=STAGES, data=data, export=None)
    assert_refused(skylight("score", file, "--root", root), "has no finished trial")
    done = skylight("train", file, "--root", root)
    assert done.returncode == 0, done.stderr
    done = skylight("score", file, "--root", root)
    assert done.returncode == 0, done.stderr
    return root, done.stdout


def _scores(root: Path) -> Scores:
    return read_scores(root / "runs/small/scores.json")


def test_every_trial_that_starts_from_weights_is_scored(scored: tuple[Path, str]) -> None:
    scores = _scores(scored[0])
    arms = {(trial.start, trial.freeze, trial.seed) for trial in scores.trials}
    assert arms == {(start, freeze, seed) for start in ("first", "part") for freeze in ("0", "4") for seed in (0, 1)}
    assert len(scores.accuracy) == 13
    assert scores.unfinished == ()
    for trial in scores.trials:
        assert trial.before == "runs/small/first/scratch-f0-s0/best.weights"
        frozen = [row["layer"] for row in trial.convolutions if row["raw"] == 0]
        assert frozen == ([0, 1, 2, 3] if trial.freeze == "4" else [])
        marked = [row["layer"] for row in trial.convolutions if row["mark"]]
        assert marked == ([7, 12] if trial.start == "part" else [])


def test_null_task_goes_on_from_the_start_on_its_own_data(scored: tuple[Path, str]) -> None:
    root, _ = scored
    nulls = {trial.null.trial for trial in _scores(root).trials if trial.null}
    assert nulls == {f"null/second-8/first-scratch-f0-f{freeze}-s{seed}" for freeze in (0, 4) for seed in (0, 1)}
    for name in nulls:
        content = json.loads((root / "runs/small" / name / "trial.json").read_text())
        assert content["settings"]["data"] == "squares"
        assert content["settings"]["iterations"] == content["result"]["iterations"] == 8
        assert content["settings"]["start_layers"] is None
    for trial in _scores(root).trials:
        for row in trial.convolutions:
            if row["corrected"] is not None:
                assert row["corrected"] == pytest.approx(row["raw"] / row["null_raw"])
            assert (row["corrected"] is None) == (row["mark"] is not None or row["raw"] == 0)


def test_table_and_plots(scored: tuple[Path, str]) -> None:
    root, text = scored
    rows = [line.split() for line in text.splitlines() if line.startswith("second")]
    assert [row[1:4] for row in rows] == [[s, f, "0,1"] for s in ("first", "part") for f in ("0", "4")]
    for name in ("second/difference.png", "second/freezing.png", "first/freezing.png"):
        assert (root / "runs/small" / name).read_bytes().startswith(b"\x89PNG")
    assert not (root / "runs/small/first/difference.png").exists()


def test_a_second_run_trains_nothing_and_says_the_same(scored: tuple[Path, str], skylight: Skylight) -> None:
    root, text = scored
    before = (root / "runs/small/scores.json").read_bytes()
    times = {path: path.stat().st_mtime_ns for path in root.glob("runs/small/null/*/*/last.weights")}
    done = skylight("score", root / "experiment.yaml", "--root", root)
    assert done.stdout == text
    assert (root / "runs/small/scores.json").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_without_null_and_without_a_trial(scored: tuple[Path, str], tmp_path: Path, skylight: Skylight) -> None:
    root = tmp_path / "copy"
    shutil.copytree(scored[0], root)
    shutil.rmtree(root / "runs/small/null")
    shutil.rmtree(root / "runs/small/second/part-f0-s1")
    done = skylight("score", root / "experiment.yaml", "--root", root, "--no-null", "--folded", "--json")
    assert done.returncode == 0, done.stderr
    assert not (root / "runs/small/null").exists()
    scores = Scores.model_validate_json(done.stdout)
    assert scores == _scores(root)
    assert scores.unfinished == ("second/part-f0-s1",)
    assert {trial.null for trial in scores.trials} == {None}
    done = skylight("score", root / "experiment.yaml", "--root", root, "--no-null", "--part", "bottlenecks")
    assert_refused(done, "--part bottlenecks", "has none")
