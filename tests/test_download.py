"""Downloads from a real server that misbehaves."""

import base64
import fcntl
import hashlib
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from bad_server import Answer, bad_server

from pipeline import download as module
from pipeline.download import download
from pipeline.errors import UserError

CONTENT = bytes(range(256)) * 4000


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Pauses are written down instead of waited for."""
    asked: list[float | None] = []
    monkeypatch.setattr(module, "pause", lambda attempt, wait: asked.append(wait))
    return asked


def test_a_file_appears_complete_under_its_name_and_is_not_asked_for_again(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    with bad_server({"/a.csv": Answer(CONTENT)}) as server:
        target = download(f"{server.url}/a.csv", tmp_path / "deep" / "a.csv", progress=lambda *p: told.append(p))
        assert target.read_bytes() == CONTENT
        assert told[-1] == (len(CONTENT), len(CONTENT))
        assert [path.name for path in target.parent.iterdir()] == ["a.csv"]
        sha256 = hashlib.sha256(CONTENT).hexdigest()
        download(f"{server.url}/a.csv", target, size=len(CONTENT), sha256=sha256.upper())
        assert len(server.asked) == 1


def test_it_goes_on_where_the_connection_broke_off(tmp_path: Path) -> None:
    with bad_server({"/a": Answer(CONTENT, ["cut", "cut", 503])}) as server:
        assert download(f"{server.url}/a", tmp_path / "a").read_bytes() == CONTENT
        ranges = [asked for _, asked in server.asked]
        assert ranges[0] == ""
        starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for asked in ranges[1:]]
        assert 0 < starts[0] < starts[1] == starts[2]


def test_what_a_killed_run_left_is_taken_up_and_of_another_version_is_not(tmp_path: Path) -> None:
    answer = Answer(CONTENT, ["cut"])
    with bad_server({"/a": answer}) as server:
        with pytest.raises(UserError, match="broke off"):
            download(f"{server.url}/a", tmp_path / "a", attempts=1)
        assert not (tmp_path / "a").exists()
        answer.content = CONTENT[::-1]  # a new version: glued to the old part it would be neither
        assert download(f"{server.url}/a", tmp_path / "a").read_bytes() == CONTENT[::-1]


def test_a_server_without_ranges_starts_again(tmp_path: Path) -> None:
    with bad_server({"/a": Answer(CONTENT, ["cut"], takes_ranges=False)}) as server:
        assert download(f"{server.url}/a", tmp_path / "a").read_bytes() == CONTENT


def test_a_part_that_is_complete_already_is_enough(tmp_path: Path) -> None:
    answer = Answer(CONTENT)
    (tmp_path / "a.part").write_bytes(CONTENT)
    (tmp_path / "a.part.etag").write_text(answer.version)
    with bad_server({"/a": answer}) as server:
        assert download(f"{server.url}/a", tmp_path / "a").read_bytes() == CONTENT


def test_stalls_and_busy_servers_are_tried_again_as_asked(tmp_path: Path, short_pauses: list[float | None]) -> None:
    with bad_server({"/a": Answer(CONTENT, ["stall", 429, 500], headers={"Retry-After": "7"})}) as server:
        assert download(f"{server.url}/a", tmp_path / "a", timeout=0.5).read_bytes() == CONTENT
    assert short_pauses == [None, 7, 7]


def test_attempts_end(tmp_path: Path) -> None:
    with bad_server({"/a": Answer(CONTENT, [500] * 9)}) as server:
        with pytest.raises(UserError, match=r"the server answers 500, 3 times; try again later"):
            download(f"{server.url}/a", tmp_path / "a", attempts=3)
        assert len(server.asked) == 3


def test_what_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    with bad_server({}) as server:
        with pytest.raises(UserError, match=r"answers 404; correct the address, or give a local copy"):
            download(f"{server.url}/a", tmp_path / "a")
        assert len(server.asked) == 1


def test_wrong_content_is_refused_and_poisons_nothing(tmp_path: Path) -> None:
    right = hashlib.sha256(CONTENT).hexdigest()
    answer = Answer(CONTENT[:-1] + b"x")
    promised = base64.b64encode(hashlib.md5(CONTENT).digest()).decode()
    with bad_server({"/a": answer}) as server:
        for wrong in ({"sha256": right}, {"size": 5}, {"md5": "0" * 32}):
            with pytest.raises(UserError, match="instead of"):
                download(f"{server.url}/a", tmp_path / "a", **wrong)
            assert not list(tmp_path.iterdir())
        answer.headers = {"x-goog-hash": f"crc32c=AAAA==, md5={promised}"}
        with pytest.raises(UserError, match=r"md5 .* instead of"):
            download(f"{server.url}/a", tmp_path / "a")
        answer.content = CONTENT
        assert download(f"{server.url}/a", tmp_path / "a", sha256=right).read_bytes() == CONTENT


def test_no_network_is_one_line_that_says_what_would_do(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}/a"
    with pytest.raises(UserError, match=r"is there a network.* get the file elsewhere and give its path") as caught:
        download(address, tmp_path / "a", attempts=2)
    assert "\n" not in str(caught.value)


def test_a_second_download_to_the_same_place_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.part").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is downloading it"):
            download("http://127.0.0.1:1/a", tmp_path / "a")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from pipeline.download import download
from pipeline.errors import UserError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
try:
    download(sys.argv[1], Path(sys.argv[2]))
except UserError as error:
    print(error)
"""


def test_a_full_disk_is_one_line_and_the_part_stays(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk; the system refuses the write in the same way."""
    with bad_server({"/a": Answer(CONTENT)}) as server:
        command = [sys.executable, "-c", FULL_DISK, f"{server.url}/a", str(tmp_path / "a")]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert said == f"{tmp_path / 'a.part'}: no room left on the disk; make room, then run again; it goes on\n"
        assert (tmp_path / "a.part").stat().st_size > 400_000
        assert download(f"{server.url}/a", tmp_path / "a").read_bytes() == CONTENT
        assert server.asked[-1][1].startswith("bytes=")
