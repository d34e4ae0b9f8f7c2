"""The page of a finished experiment, as the command and a training write it."""

import json
import re
import shutil
from html import unescape
from pathlib import Path

import pytest
from drawn import Skylight, assert_refused, write_experiment

from jetson.board import read_board
from pipeline.experiment import read_experiment
from pipeline.export.profile import estimates, profile
from pipeline.report.page import write_report
from pipeline.workspace import Workspace


@pytest.fixture(scope="module")
def whole(trained: Path, bundle: Path, skylight: Skylight, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with runs, scores, advice and a bundle."""
    root = tmp_path_factory.mktemp("whole") / "root"
    shutil.copytree(trained, root)
    for verb, *options in (("score", "--no-null"), ("advise", "--share", "1")):
        done = skylight(verb, root / "experiment.yaml", "--root", root, *options)
        assert done.returncode == 0, done.stderr
    return root


def report(root: Path, out: Path) -> str:
    file = root / "experiment.yaml"
    return write_report(read_experiment(file), file, Workspace(root), out).read_text()


def words(page: str) -> str:
    body = page[page.index("<main>") : page.index("</main>")]
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))


def test_training_ends_with_the_page(trained: Path) -> None:
    page = words((trained / "report" / "small" / "index.html").read_text())
    assert "The answer: start from first, freeze" in page
    assert "skylight score" in page  # what is missing, and what makes it


def test_everything_there_is_stands_on_the_page(whole: Path, tmp_path: Path) -> None:
    page = report(whole, tmp_path)
    text = words(page)
    trials = [json.loads(path.read_text()) for path in (whole / "runs/small/second").glob("*/trial.json")]
    best = max(trials, key=lambda trial: trial["result"]["best_ap50"])
    assert f"start from first, freeze {best['settings']['freeze']}" in text
    assert f"{100 * best['result']['best_ap50']:.1f} %" in text
    assert best["result"]["best_weights_sha256"] in text
    assert "beforehand" in text  # the advice
    assert "onnxruntime" in text  # parity
    assert "jetson-tx2" in text  # speed
    assert text.count("Published, Table") == 3
    assert page.count("data:image/jpeg;base64,") <= 12
    names = {plot["name"] for plot in json.loads(re.search(r'id="plots">(.*?)</script>', page)[1])}  # type: ignore[index]
    assert {"ap-first", "ap-second", "freezing-second", "raw-second", "loss-second-0", "precision"} <= names


def test_the_same_runs_give_the_same_bytes(whole: Path, skylight: Skylight, tmp_path: Path) -> None:
    done = skylight("report", whole / "experiment.yaml", "--root", whole, "--out", tmp_path / "one", "--json")
    assert done.returncode == 0, done.stderr
    written = tmp_path / "one" / "small" / "index.html"
    assert json.loads(done.stdout) == {"report": str(written)}
    first = written.read_text()
    kept = tmp_path / "two" / "small" / "detections.json"
    assert report(whole, tmp_path / "two") == first
    content = json.loads(kept.read_text())
    assert report(whole, tmp_path / "two") == first
    content["found"] = [[] for _ in content["found"]]
    kept.write_text(json.dumps(content))
    assert "missed: square" in report(whole, tmp_path / "two")  # what is kept is not measured again
    content["of"]["weights_sha256"] = "of other weights"
    kept.write_text(json.dumps(content))
    assert report(whole, tmp_path / "two") == first


def test_the_page_is_made_from_figures_alone_too(trained: Path, tmp_path: Path) -> None:
    for trial in (trained / "runs").glob("*/*/*/trial.json"):
        target = tmp_path / trial.parent.relative_to(trained)
        target.mkdir(parents=True)
        for name in ("trial.json", "metrics.jsonl"):
            shutil.copy(trial.with_name(name), target)
    shutil.copy(trained / "small.cfg", tmp_path)
    shutil.copy(trained / "experiment.yaml", tmp_path)
    text = words(report(tmp_path, tmp_path / "out"))
    assert "The answer: start from first" in text
    assert "No detections:" in text
    assert "skylight export" in text


def test_a_trial_that_is_not_finished_is_named(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "root")
    shutil.rmtree(tmp_path / "root" / "runs" / "small" / "second" / "first-f4-s0")
    text = words(report(tmp_path / "root", tmp_path / "out"))
    assert "Not finished and left out: second/first-f4-s0. skylight train" in text
    assert "The answer: start from first, freeze 0" in text


def test_an_experiment_without_a_finished_trial_is_refused(skylight: Skylight, tmp_path: Path) -> None:
    file = write_experiment(tmp_path)
    assert_refused(skylight("report", file, "--root", tmp_path), "holds no finished trial", "skylight train")
    assert not (tmp_path / "report").exists()


def test_a_report_that_fails_leaves_the_training_finished(trained: Path, skylight: Skylight, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(trained, root, ignore=shutil.ignore_patterns("report"))
    (root / "report").write_text("in the way")
    done = skylight("train", root / "experiment.yaml", "--root", root)
    assert done.returncode == 0, done.stderr
    assert "no report, the training is complete all the same" in done.stderr
    assert "stage second" in done.stdout
    assert "report:" not in done.stdout


def test_estimates_are_those_of_the_profile_and_do_not_change(bundle: Path) -> None:
    boards = [read_board("jetson-tx2"), read_board("jetson-nano")]
    first, again = (estimates(bundle / "model.onnx", boards) for _ in range(2))
    assert first == again
    assert [one.board for one in first] == ["jetson-tx2", "jetson-nano"]
    assert first[0].milliseconds == profile(bundle / "model.onnx", boards[0], runs=1).estimate
