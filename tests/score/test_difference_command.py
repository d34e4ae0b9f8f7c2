"""`skylight difference` on trained weights and on files of other tools, as a user runs it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from drawn import SMALL_CFG, Skylight, assert_refused

from pipeline.errors import UserError
from pipeline.networks.families import architecture
from pipeline.networks.lenet import LeNet5
from pipeline.score.compare import compare, layer_numbers

FIRST, SECOND = "runs/small/first/scratch-f0-s0", "runs/small/second/first-f4-s0"


def _rows(before: Path, after: Path, **options: Any) -> list[dict[str, Any]]:
    """What the command prints as JSON, without another process."""
    return compare(str(before), str(after), **options).rows()


@pytest.fixture
def lenets(tmp_path: Path) -> tuple[Path, Path]:
    """State dicts of a LeNet-5 before and after its second convolution moved."""
    tensors = LeNet5().state_dict()
    torch.save(tensors, tmp_path / "before.pth")
    torch.save({**tensors, "features.c3.weight": tensors["features.c3.weight"] + 0.1}, tmp_path / "after.pth")
    return tmp_path / "before.pth", tmp_path / "after.pth"


def test_frozen_layers_of_a_trial_did_not_move_at_all(trained: Path) -> None:
    rows = _rows(trained / FIRST, trained / SECOND)
    assert [row["layer"] for row in rows] == [0, 1, 2, 3, 6, 7, 12]
    for row in rows:
        figures = [row["raw"], row["filter_median"], row["filter_p95"], row["folded"], *(row["drift"] or {}).values()]
        assert all(value == 0 for value in figures) == (row["layer"] < 4), row
        assert row["mark"] is None


def test_a_trial_that_began_at_random_is_marked_not_scored(trained: Path) -> None:
    rows = _rows(trained / SECOND, trained / FIRST)
    assert {row["mark"] for row in rows} == {"re-initialised"}
    assert {row["raw"] for row in rows} == {None}
    # Two checkpoints of one trial: nothing was random between them.
    rows = _rows(trained / FIRST / "last.weights", trained / FIRST / "best.weights")
    assert {row["mark"] for row in rows} == {None}


def test_a_network_that_nothing_needs_is_refused(trained: Path) -> None:
    with pytest.raises(UserError, match="--network yolov3: both are trials'"):
        _rows(trained / FIRST, trained / SECOND, network="yolov3")


def test_a_trial_that_began_elsewhere_is_said_to_be_unrelated(trained: Path, skylight: Skylight) -> None:
    first, second, sibling = (str(trained / name) for name in (FIRST, SECOND, SECOND.replace("-f4", "-f0")))
    assert compare(first, second, null=sibling).unrelated == ()
    assert compare(first, first).unrelated == ()
    assert [path.parent.name for path in compare(second, sibling).unrelated] == ["first-f0-s0"]
    done = skylight("difference", second, sibling)
    assert done.returncode == 0, done.stderr
    assert f"{sibling}/best.weights was not trained from {second}/best.weights" in done.stdout


def test_bare_files_mark_what_is_named_and_what_has_another_shape(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "small.cfg").write_text(SMALL_CFG.replace("classes=4", "classes=1").replace("filters=18", "filters=12"))
    for name, trial in (("before", FIRST), ("after", SECOND)):
        (tmp_path / f"{name}.weights").write_bytes((trained / trial / "best.weights").read_bytes())
    files = (tmp_path / "before.weights", tmp_path / "after.weights")
    rows = _rows(*files, network=str(tmp_path / "small.cfg"), reinitialised=(7, 12))
    assert [row["layer"] for row in rows if row["mark"] == "re-initialised"] == [7, 12]
    (tmp_path / "small.cfg").write_text(SMALL_CFG)  # the same with four classes
    architecture(str(tmp_path / "small.cfg"), 64, 4).build().save(tmp_path / "four.weights", 0)
    rows = _rows(files[0], tmp_path / "four.weights", network=str(tmp_path / "small.cfg"))
    assert [row["layer"] for row in rows if row["mark"] == "another shape"] == [7, 12]
    with pytest.raises(UserError, match="--network"):
        _rows(*files)
    with pytest.raises(UserError, match="5: no layer with weights"):
        _rows(*files, network=str(tmp_path / "small.cfg"), reinitialised=(5,))


def test_null_task_divides(trained: Path) -> None:
    rows = _rows(trained / FIRST, trained / SECOND, null=str(trained / SECOND))
    assert [row["corrected"] for row in rows] == [None] * 4 + [1.0] * 3
    assert all(row["null_raw"] == row["raw"] for row in rows)


def test_state_dicts_table_freeze_and_plot(lenets: tuple[Path, Path], tmp_path: Path, skylight: Skylight) -> None:
    freeze, plot = tmp_path / "freeze.yaml", tmp_path / "plot.png"
    ask = ("difference", *lenets, "--network", "lenet5", "--threshold", "0.001")
    done = skylight(*ask, "--rule", "prefix", "--write-freeze", freeze, "--plot", plot)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if "features." in line]
    assert [row[2] for row in rows if row[3] != "0"] == ["features.c3"]
    assert yaml.safe_load(freeze.read_text()) == {"freeze": [1]}
    assert plot.read_bytes().startswith(b"\x89PNG")
    plot.unlink()
    assert_refused(skylight(*ask, "--write-freeze", freeze, "--plot", plot), "is there already")
    assert not plot.exists()
    assert json.loads(skylight(*ask, "--rule", "above", "--json").stdout)["freeze"] == [1]
    assert compare(str(lenets[0]), str(lenets[1]), network="lenet5", threshold=0.001).freeze == (0, 2)


def test_what_cannot_be_compared_is_refused(lenets: tuple[Path, Path], trained: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "nan.pth"
    torch.save({"features.c1.weight": torch.full((6, 1, 5, 5), float("nan"))}, damaged)
    asked: list[tuple[str, tuple[Path, Path], dict[str, Any]]] = [
        ("lenet6: no such network", lenets, {"network": "lenet6"}),
        ("is no convolution of alexnet", lenets, {"network": "alexnet"}),
        ("lenet5 has none", lenets, {"network": "lenet5", "part": "bottlenecks"}),
        ("compare checkpoints of one network", (lenets[0], trained / FIRST), {"network": "lenet5"}),
        ("no trial.json", (tmp_path, lenets[0]), {}),
        ("NaN", (damaged, lenets[0]), {"network": "lenet5"}),
        ("no such file", (tmp_path / "none.pth", lenets[0]), {"network": "lenet5"}),
    ]
    for message, files, options in asked:
        with pytest.raises(UserError, match=message):
            _rows(*files, **options)
    with pytest.raises(UserError, match="no numbers of layers"):
        layer_numbers("15,x")


def test_options_that_do_not_go_together_are_refused(
    lenets: tuple[Path, Path], tmp_path: Path, skylight: Skylight
) -> None:
    ask = ("difference", *lenets, "--network", "lenet5")
    assert_refused(skylight(*ask, "--rule", "prefix"), "no threshold")
    assert_refused(skylight(*ask, "--plot", tmp_path / "x.txt"), "no picture ends in .txt")
