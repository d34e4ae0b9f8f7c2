"""`skylight weights`: the table of what was published, and the download of one."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from bad_server import Answer, bad_server
from drawn import assert_refused

from pipeline import cli
from pipeline import download as download_module
from pipeline.darknet import known as known_module
from pipeline.darknet.known import KNOWN_WEIGHTS, known_weights
from pipeline.errors import UserError

CONTENT = bytes(range(256)) * 100


def test_table_names_every_file_and_says_which_are_here(tmp_path, skylight):
    (tmp_path / "cache/weights").mkdir(parents=True)
    (tmp_path / "cache/weights/yolov4-tiny.conv.29").write_bytes(b"x")
    done = skylight("weights", "--root", tmp_path)
    assert done.returncode == 0, done.stderr
    head, _, *rows = [line.split() for line in done.stdout.splitlines()]
    assert head == ["name", "trained", "on", "classes", "layers", "resize", "MB", "here"]
    table = {row[0]: row[1:] for row in rows}
    assert table["yolov3-tiny"] == ["COCO", "80", "all", "letterbox", "35.4", "no"]
    assert table["yolov4-tiny.conv.29"] == ["COCO", "80", "0", "to", "28", "stretch", "19.8", "yes"]
    assert table["darknet53"] == ["ImageNet", "1000", "all", "letterbox", "?", "no"]
    assert [row[0] for row in rows[:-1]] == [known.name for known in KNOWN_WEIGHTS]
    assert str(tmp_path / "cache/weights") in done.stdout


def test_json_says_the_same(tmp_path, skylight):
    (tmp_path / "cache/weights").mkdir(parents=True)
    there = tmp_path / "cache/weights/yolov3-tiny.weights"
    there.write_bytes(b"x")
    rows = {row["name"]: row for row in json.loads(skylight("weights", "--json", "--root", tmp_path).stdout)}
    assert list(rows) == [known.name for known in KNOWN_WEIGHTS]
    assert rows["yolov3-tiny"]["path"] == str(there)
    assert rows["yolov3"]["path"] is None
    for known in KNOWN_WEIGHTS:
        row = rows[known.name]
        for key in ("trained_on", "classes", "layers", "resize", "size", "network"):
            assert row[key] == getattr(known, key), key


def test_name_is_downloaded_to_the_cache_with_a_bar(tmp_path, monkeypatch, capsys):
    with bad_server({"/w": Answer(CONTENT)}) as server:
        entry = dataclasses.replace(
            known_weights("yolov3-tiny"),
            urls=(f"{server.url}/w",),
            size=len(CONTENT),
            sha256=hashlib.sha256(CONTENT).hexdigest(),
        )
        monkeypatch.setattr(known_module, "KNOWN_WEIGHTS", (entry,))
        cli.app(["weights", "yolov3-tiny", "--root", str(tmp_path)], standalone_mode=False)
        target = tmp_path / "cache/weights/yolov3-tiny.weights"
        printed = capsys.readouterr()
        assert printed.out == f"{target}\n"
        assert f"download yolov3-tiny, bytes: {len(CONTENT)} of {len(CONTENT)}" in printed.err
        assert target.read_bytes() == CONTENT
        cli.app(["weights", "yolov3-tiny.weights", "--json", "--root", str(tmp_path)], standalone_mode=False)
        assert json.loads(capsys.readouterr().out) == {"name": "yolov3-tiny.weights", "path": str(target)}
        assert len(server.asked) == 1


def test_download_that_fails_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, "pause", lambda attempt, wait: None)
    with bad_server({}) as server:
        entry = dataclasses.replace(known_weights("yolov3-tiny"), urls=(f"{server.url}/gone",))
        monkeypatch.setattr(known_module, "KNOWN_WEIGHTS", (entry,))
        with pytest.raises(UserError, match="404") as caught:
            cli.app(["weights", "yolov3-tiny", "--root", str(tmp_path)], standalone_mode=False)
    assert "\n" not in str(caught.value)
    assert not [path for path in Path(tmp_path).rglob("*") if path.is_file()]


def test_unknown_name_and_another_file_in_its_place_are_refused(tmp_path, skylight):
    assert_refused(skylight("weights", "yolov9000", "--root", tmp_path), "yolov9000", "darknet53.conv.74")
    (tmp_path / "cache/weights").mkdir(parents=True)
    (tmp_path / "cache/weights/yolov3-tiny.weights").write_bytes(b"x")
    with pytest.raises(UserError, match="1 bytes instead of 35434956"):
        cli.app(["weights", "yolov3-tiny", "--root", str(tmp_path)], standalone_mode=False)
