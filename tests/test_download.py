"""Downloads from a real server that misbehaves."""

import base64
import email.utils
import fcntl
import gzip
import hashlib
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest
from bad_server import Answer, bad_server, swallowing_port

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


def test_another_version_is_never_glued_where_the_server_knows_no_if_range(tmp_path: Path) -> None:
    answer = Answer(CONTENT, ["cut", "change"], later=[CONTENT[::-1]], knows_if_range=False)
    with bad_server({"/a": answer}) as server:
        assert download(f"{server.url}/a", tmp_path / "a").read_bytes() == CONTENT[::-1]
        assert [asked != "" for _, asked in server.asked] == [False, True, False]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_that_comes_packed_though_nobody_asked_is_unpacked(tmp_path: Path) -> None:
    packed = Answer(gzip.compress(CONTENT), ["cut"], headers={"Content-Encoding": "gzip"})
    with bad_server({"/a": packed}) as server:
        assert download(f"{server.url}/a", tmp_path / "a", size=len(CONTENT)).read_bytes() == CONTENT


def test_a_part_that_is_complete_already_is_enough(tmp_path: Path) -> None:
    answer = Answer(CONTENT)
    (tmp_path / "a.part").write_bytes(CONTENT)
    (tmp_path / "a.part.etag").write_text(answer.version)
    with bad_server({"/a": answer}) as server:
        assert download(f"{server.url}/a", tmp_path / "a").read_bytes() == CONTENT
        assert len(server.asked) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_stalls_and_busy_servers_are_tried_again_as_asked(tmp_path: Path, short_pauses: list[float | None]) -> None:
    with bad_server({"/a": Answer(CONTENT, ["stall", 429, 500], headers={"Retry-After": "7"})}) as server:
        assert download(f"{server.url}/a", tmp_path / "a", timeout=0.5).read_bytes() == CONTENT
    assert short_pauses == [None, 7, 7]


def test_a_date_to_come_back_at_is_understood(tmp_path: Path, short_pauses: list[float | None]) -> None:
    later = email.utils.formatdate(time.time() + 30, usegmt=True)
    with bad_server({"/a": Answer(CONTENT, [503], headers={"Retry-After": later})}) as server:
        download(f"{server.url}/a", tmp_path / "a")
    assert short_pauses[0] is not None
    assert 20 < short_pauses[0] <= 30


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
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["no/address", "http://", "ftp://host/a", "http://two words/a", "http://[::1", ""])
def test_what_is_no_address_is_not_tried(tmp_path: Path, url: str, short_pauses: list[float | None]) -> None:
    with pytest.raises(UserError, match="no web address; give one that begins with https://"):
        download(url, tmp_path / "a")
    assert not short_pauses
    assert not list(tmp_path.iterdir())


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


def test_amazons_etag_is_a_checksum_unless_the_file_is_encrypted(tmp_path: Path) -> None:
    answer = Answer(CONTENT[:-1] + b"x", etag=hashlib.md5(CONTENT).hexdigest())
    with bad_server({"/a": answer}) as server:
        assert download(f"{server.url}/a", tmp_path / "elsewhere").is_file()  # what another server calls a version
        answer.headers = {"x-amz-request-id": "1", "x-amz-server-side-encryption": "aws:kms"}
        assert download(f"{server.url}/a", tmp_path / "encrypted").is_file()
        answer.headers = {"x-amz-request-id": "1", "x-amz-server-side-encryption": "AES256"}
        with pytest.raises(UserError, match=r"md5 .* instead of"):
            download(f"{server.url}/a", tmp_path / "a")


def test_no_network_is_one_line_that_says_what_would_do(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}/a"
    with pytest.raises(UserError, match=r"is there a network.* get the file elsewhere and give its path") as caught:
        download(address, tmp_path / "a", attempts=2)
    assert "\n" not in str(caught.value)


def test_a_network_that_swallows_everything_is_no_network(tmp_path: Path) -> None:
    with swallowing_port() as url, pytest.raises(UserError, match="is there a network"):
        download(f"{url}/a", tmp_path / "a", timeout=0.2, attempts=2)


def test_a_second_download_to_the_same_place_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.part").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is downloading it"):
            download("http://127.0.0.1:1/a", tmp_path / "a")


@pytest.mark.parametrize("theirs", [CONTENT, CONTENT[::-1]], ids=["right", "wrong"])
def test_a_file_that_another_process_finishes_meanwhile_is_taken_if_it_is_right_and_never_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: bytes
) -> None:
    """Between opening and locking the part, the other process renames it: what is open then is its finished file."""
    target, part, link = tmp_path / "a", tmp_path / "a.part", tmp_path / "theirs"
    lock = fcntl.flock

    def other_was_quicker(file: IO[bytes], operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        part.write_bytes(theirs)
        part.rename(target)
        link.hardlink_to(target)
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", other_was_quicker)
    with bad_server({"/a": Answer(CONTENT)}) as server:
        found = download(f"{server.url}/a", target, sha256=hashlib.sha256(CONTENT).hexdigest())
        assert found.read_bytes() == CONTENT
        assert len(server.asked) == (theirs != CONTENT)
    assert link.read_bytes() == theirs
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "theirs"]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from pipeline.download import download
from pipeline.errors import UserError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    download(sys.argv[1], Path(sys.argv[2]))
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(("size", "room"), [(len(CONTENT), 500_000), (5000, 2000)])
def test_a_full_disk_is_one_line_and_the_part_stays(tmp_path: Path, size: int, room: int) -> None:
    """A limit on the size of files stands in for the disk; the system refuses the write in the same way."""
    with bad_server({"/a": Answer(CONTENT[:size])}) as server:
        command = [sys.executable, "-c", FULL_DISK, f"{server.url}/a", str(tmp_path / "a"), str(room)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert said == f"{tmp_path / 'a.part'}: no room left on the disk; make room, then run again; it goes on\n"
        assert (tmp_path / "a.part").stat().st_size == room
        assert download(f"{server.url}/a", tmp_path / "a").read_bytes() == CONTENT[:size]
        assert server.asked[-1][1] == f"bytes={room}-"


def test_attempts_count_only_while_nothing_comes(tmp_path: Path) -> None:
    with bad_server({"/a": Answer(CONTENT, ["cut"] * 3)}) as server:
        assert download(f"{server.url}/a", tmp_path / "a", attempts=2).read_bytes() == CONTENT


def test_the_proxy_of_the_environment_is_asked_but_not_for_what_it_excepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bad_server({"http://photos.invalid/a": Answer(CONTENT), "/b": Answer(CONTENT)}) as server:
        monkeypatch.setenv("http_proxy", server.url)
        assert download("http://photos.invalid/a", tmp_path / "a").read_bytes() == CONTENT
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert download(f"{server.url}/b", tmp_path / "b").read_bytes() == CONTENT
        assert [path for path, _ in server.asked] == ["http://photos.invalid/a", "/b"]


def test_a_checksum_of_a_few_digits_is_no_proof(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    with pytest.raises(ValueError, match="proves nothing"):
        download("http://localhost/a", tmp_path / "a", sha256=hashlib.sha256(CONTENT).hexdigest()[:7])
