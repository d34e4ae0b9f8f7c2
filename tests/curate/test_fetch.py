"""Fetching photos from a real server that misbehaves, many at once."""

import csv
import io
import socket
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from bad_server import Answer, bad_server, swallowing_port
from PIL import EpsImagePlugin, Image

from pipeline import connections
from pipeline.curate import fetch as module
from pipeline.curate.fetch import FAILURES, fetch_photos
from pipeline.errors import UserError
from pipeline.interrupt import Interrupted


def _jpeg(seed: int) -> bytes:
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    file = io.BytesIO()
    image.save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "pause", lambda attempt, wait: None)


def _wanted(*names: str) -> dict[str, str]:
    return {name: f"train/{name}.jpg" for name in names}


def _failures(folder: Path) -> dict[str, str]:
    with (folder / FAILURES).open() as file:
        return {row["image_id"]: row["reason"] for row in csv.DictReader(file)}


def test_every_trouble_that_passes_is_sat_out_and_what_stays_goes_to_the_list(tmp_path: Path) -> None:
    photos = {name: _jpeg(seed) for seed, name in enumerate("abcdefg")}
    answers = {f"/train/{name}.jpg": Answer(content) for name, content in photos.items()}
    answers["/train/b.jpg"].faults = ["stall"]
    answers["/train/c.jpg"].faults = ["cut", 429]
    answers["/train/d.jpg"].faults = [500, 503]
    answers["/train/e.jpg"] = Answer(photos["e"][: len(photos["e"]) // 2])  # a broken JPEG, sent completely
    answers["/train/f.jpg"].faults = [500] * 9
    told: list[tuple[int, int]] = []
    with bad_server(answers) as server:
        found = fetch_photos(
            _wanted(*photos, "gone"), server.url, tmp_path, timeout=0.5, progress=lambda *p: told.append(p)
        )
    assert set(found.paths) == set("abcdg")
    for name, path in found.paths.items():
        assert path == tmp_path / f"{name}.jpg"
        assert path.read_bytes() == photos[name]
    assert set(found.failed) == {"e", "f", "gone"}
    assert _failures(tmp_path) == found.failed
    assert "no photo, or a broken one" in found.failed["e"]
    assert "500" in found.failed["f"]
    assert found.failed["gone"] == "the server answers 404"
    assert told[-1] == (8, 8)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*(f"{name}.jpg" for name in "abcdg"), FAILURES])


def test_a_rerun_asks_only_for_what_failed(tmp_path: Path) -> None:
    answers = {f"/train/{name}.jpg": Answer(_jpeg(1)) for name in "ab"}
    with bad_server(answers) as server:
        fetch_photos(_wanted("a", "b", "c"), server.url, tmp_path)
        server.asked.clear()
        answers["/train/c.jpg"] = Answer(_jpeg(2))
        assert not fetch_photos(_wanted("a", "b", "c"), server.url, tmp_path).failed
        assert [path for path, _ in server.asked] == ["/train/c.jpg"]
    assert not (tmp_path / FAILURES).exists()


def test_what_is_not_there_is_asked_for_once_and_disturbs_no_other_photo(tmp_path: Path) -> None:
    """The page of a 404 comes late; left unread on a kept connection it would be the next photo's answer."""
    names = [f"p{index}" for index in range(120)]
    content = _jpeg(0)
    with bad_server({f"/train/{name}.jpg": Answer(content) for name in names[::2]}) as server:
        found = fetch_photos(_wanted(*names), server.url, tmp_path, workers=4)
        assert len(server.asked) == 120
    assert set(found.paths) == set(names[::2])
    assert set(found.failed.values()) == {"the server answers 404"}


def test_at_least_thirty_two_at_once(tmp_path: Path) -> None:
    names = [f"p{index}" for index in range(96)]
    content = _jpeg(0)
    with bad_server({f"/train/{name}.jpg": Answer(content, delay=0.3) for name in names}) as server:
        assert len(fetch_photos(_wanted(*names), server.url, tmp_path).paths) == 96
        assert server.most_at_once >= 32


def test_a_stop_keeps_what_is_complete_and_leaves_nothing_half(tmp_path: Path) -> None:
    names = [f"p{index}" for index in range(200)]
    content = _jpeg(0)
    done: list[int] = []
    with bad_server({f"/train/{name}.jpg": Answer(content, delay=0.05) for name in names}) as server:
        with pytest.raises(Interrupted, match="kept"):
            fetch_photos(
                _wanted(*names),
                server.url,
                tmp_path,
                workers=4,
                stop=lambda: len(done) >= 10,
                progress=lambda *_: done.append(1),
            )
        kept = list(tmp_path.iterdir())
        assert 10 <= len(kept) < 200
        assert all(path.read_bytes() == content for path in kept)
        server.asked.clear()
        assert len(fetch_photos(_wanted(*names), server.url, tmp_path).paths) == 200
        assert len(server.asked) == 200 - len(kept)


@pytest.mark.parametrize("fault", [429, "drip"])
def test_a_stop_waits_neither_for_a_busy_server_nor_for_a_dripping_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int | str
) -> None:
    monkeypatch.setattr(module, "pause", connections.pause)
    answer = Answer(_jpeg(0), [fault] * 9, headers={"Retry-After": "30"})
    with bad_server({"/train/a.jpg": answer}) as server:
        begun = time.monotonic()
        with pytest.raises(Interrupted, match="0 of 1 photos are kept"):
            fetch_photos(_wanted("a"), server.url, tmp_path, stop=lambda: bool(server.asked))
        assert time.monotonic() - begun < 3


def test_a_network_that_goes_away_ends_it_and_what_is_there_is_kept(tmp_path: Path) -> None:
    names = [f"p{index}" for index in range(400)]
    content = _jpeg(0)
    with bad_server({f"/train/{name}.jpg": Answer(content, delay=0.01) for name in names}) as server:

        def progress(done: int, _: int) -> None:
            if done == 50:
                server.vanish()

        with pytest.raises(UserError, match=r"is there a network.* what is there is kept"):
            fetch_photos(_wanted(*names), server.url, tmp_path, workers=8, attempts=2, progress=progress)
    photos = list(tmp_path.glob("*.jpg"))
    assert 50 <= len(photos) < 400
    assert all(path.read_bytes() == content for path in photos)
    assert 8 <= len(_failures(tmp_path)) < 100


def test_a_network_that_swallows_everything_ends_it_too(tmp_path: Path) -> None:
    with swallowing_port() as url, pytest.raises(UserError, match=r"is there a network\?"):
        fetch_photos(_wanted(*(f"p{index}" for index in range(500))), url, tmp_path, attempts=1, timeout=0.3)


def test_pictures_made_to_exhaust_the_memory_and_other_formats_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.BytesIO()
    Image.new("RGB", (90, 80)).save(file, "PNG")
    bomb = file.getvalue().replace(struct.pack(">II", 90, 80), struct.pack(">II", 60_000, 60_000))
    bomb = bomb[:29] + struct.pack(">I", zlib.crc32(bomb[12:29])) + bomb[33:]
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("ran a program"))
    with bad_server({"/train/a.jpg": Answer(bomb), "/train/b.jpg": Answer(postscript)}) as server:
        found = fetch_photos(_wanted("a", "b"), server.url, tmp_path)
    assert "too many pixels" in found.failed["a"]
    assert "cannot identify image file 'b.jpg'" in found.failed["b"]
    assert [path.name for path in tmp_path.iterdir()] == [FAILURES]


def test_no_network_ends_it_in_one_line_and_names_nothing_failed_for_ever(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(UserError, match=r"is there a network\?") as caught:
        fetch_photos(_wanted(*(f"p{index}" for index in range(500))), url, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*.jpg"))


@pytest.mark.parametrize("bad", ["../a", "a/b", "..", "", "a\0b", "a" * 300])
def test_ids_cannot_leave_the_folder(tmp_path: Path, bad: str) -> None:
    with pytest.raises(UserError, match="an id that is no file name"):
        fetch_photos({bad: "train/a.jpg"}, "http://127.0.0.1:1", tmp_path / "photos")
    assert not list(tmp_path.iterdir())


def test_no_photo_takes_the_place_of_the_list_of_failures(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="an id that is no file name"):
        fetch_photos({"failures": "train/a.csv"}, "http://127.0.0.1:1", tmp_path)


def test_what_is_no_address_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no web address"):
        fetch_photos(_wanted("a"), "bucket/photos", tmp_path / "photos")
    assert not list(tmp_path.iterdir())


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from pipeline.curate.fetch import fetch_photos
from pipeline.errors import UserError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    wanted = {f"gone{index}": f"train/gone{index}.jpg" for index in range(int(sys.argv[3]))}
    fetch_photos(wanted | {"a": "train/a.jpg"}, sys.argv[1], Path(sys.argv[2]), workers=1)
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("failures", [0, 60])
def test_a_full_disk_is_one_line_and_leaves_nothing_half(tmp_path: Path, failures: int) -> None:
    """A limit on the size of files stands in for the disk; there is no room for the list of 60 failures either."""
    with bad_server({"/train/a.jpg": Answer(_jpeg(0))}) as server:
        command = [sys.executable, "-c", FULL_DISK, server.url, str(tmp_path / "photos"), str(failures)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == f"{tmp_path / 'photos'}: no room left on the disk; make room, then run again\n"
    assert not list((tmp_path / "photos").iterdir())


def test_pauses_grow_and_follow_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(connections.time, "sleep", waited.append)
    for attempt in (1, 2, 3, 4):
        connections.pause(attempt, None)
    connections.pause(1, 7)
    connections.pause(1, 99999)
    assert all(low <= value <= 3 * low for low, value in zip([0.25, 0.5, 1, 2], waited, strict=False))
    assert waited[4:] == [7, 60]
