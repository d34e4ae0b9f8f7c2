"""Fetching photos from a real server that misbehaves, many at once."""

import csv
import io
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bad_server import Answer, bad_server
from PIL import Image

from pipeline import download
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
    assert "404" in found.failed["gone"]
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


def test_no_network_ends_it_in_one_line_and_names_nothing_failed_for_ever(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(UserError, match=r"is there a network\?") as caught:
        fetch_photos(_wanted(*(f"p{index}" for index in range(500))), url, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*.jpg"))


def test_ids_cannot_leave_the_folder(tmp_path: Path) -> None:
    for bad in ("../a", "a/b", "..", ""):
        with pytest.raises(UserError, match="an id that is no file name"):
            fetch_photos({bad: "train/a.jpg"}, "http://127.0.0.1:1", tmp_path / "photos")
    assert not list(tmp_path.iterdir())


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from pipeline.curate.fetch import fetch_photos
from pipeline.errors import UserError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    fetch_photos({"a": "train/a.jpg"}, sys.argv[1], Path(sys.argv[2]))
except UserError as error:
    print(error)
"""


def test_a_full_disk_is_one_line_and_leaves_nothing_half(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk; the system refuses the write in the same way."""
    with bad_server({"/train/a.jpg": Answer(_jpeg(0))}) as server:
        command = [sys.executable, "-c", FULL_DISK, server.url, str(tmp_path / "photos")]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == f"{tmp_path / 'photos'}: no room left on the disk; make room, then run again\n"
    assert not list((tmp_path / "photos").iterdir())


def test_pauses_grow_and_follow_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(download.time, "sleep", waited.append)
    for attempt in (1, 2, 3, 4):
        download.pause(attempt, None)
    download.pause(1, 7)
    download.pause(1, 99999)
    assert all(low <= value <= 3 * low for low, value in zip([0.25, 0.5, 1, 2], waited, strict=False))
    assert waited[4:] == [7, 60]
