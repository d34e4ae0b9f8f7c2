"""Pretrained weights: torchvision's own by download from a real server, or a file by its path."""

import hashlib
from pathlib import Path

import pytest
from bad_server import Answer, bad_server
from drawn import Skylight, assert_refused
from drawn_objects import NETWORK, refusal

from pipeline import download as download_module
from pipeline.errors import UserError
from pipeline.score import pretrained as module
from pipeline.score.pretrained import fetch_pretrained, pretrained_files, published_address

CONTENT = bytes(range(256)) * 100
FILE = f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "pause", lambda attempt, wait: None)


def _serve_at(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(module, "published_address", lambda name: address)


def test_addresses_are_torchvisions() -> None:
    assert published_address("resnet18").endswith("/resnet18-f37072fd.pth")
    assert published_address("mobilenet_v2").endswith("/mobilenet_v2-7ebf99e0.pth")


def test_file_is_downloaded_once_and_its_name_is_its_check(tmp_path, monkeypatch):
    told: list[tuple[str, int, int | None]] = []
    with bad_server({f"/{FILE}": Answer(CONTENT, ["cut"])}) as server:
        _serve_at(monkeypatch, f"{server.url}/{FILE}")
        path = fetch_pretrained("net", tmp_path, lambda *done: told.append(done))
        assert path == tmp_path / FILE
        assert path.read_bytes() == CONTENT
        assert told[-1] == ("net", len(CONTENT), len(CONTENT))
        requests = len(server.asked)
        assert fetch_pretrained("net", tmp_path) == path
        assert len(server.asked) == requests


def test_content_that_is_not_what_the_name_says_is_refused(tmp_path, monkeypatch):
    with bad_server({f"/{FILE}": Answer(CONTENT[::-1])}) as server:
        _serve_at(monkeypatch, f"{server.url}/{FILE}")
        with pytest.raises(UserError, match="sha256"):
            fetch_pretrained("net", tmp_path)
        assert not (tmp_path / FILE).exists()
        (tmp_path / FILE).write_bytes(b"another")
        with pytest.raises(UserError, match=f"{FILE}: sha256 .* does not begin with"):
            fetch_pretrained("net", tmp_path)


def test_without_a_network_it_says_what_to_fetch_and_where_it_goes(tmp_path, monkeypatch):
    with bad_server({}) as server:
        _serve_at(monkeypatch, f"{server.url}/{FILE}")
        server.vanish()
        with pytest.raises(UserError) as caught:
            fetch_pretrained("net", tmp_path / "weights")
    message = str(caught.value)
    assert "\n" not in message
    for part in (f"fetch {server.url}/{FILE}", f"put it at {tmp_path / 'weights' / FILE}", "--pretrained net=FILE"):
        assert part in message


def test_given_files_come_first(tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(b"x")
    given = {"resnet18": tmp_path / "mine.pth"}
    assert pretrained_files(("resnet18",), given, tmp_path) == given
    with pytest.raises(UserError, match="not among the networks; they are resnet34"):
        pretrained_files(("resnet34",), given, tmp_path)


def test_command_refuses_before_any_training(
    tmp_path: Path, objects: Path, skylight: Skylight, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["classify", objects, "--network", NETWORK, "--epochs", 1, "--size", 32, "--root", tmp_path]
    (tmp_path / "wrong.pth").write_bytes(b"wrong")
    done = skylight(*command, "--pretrained", f"{NETWORK}={tmp_path / 'wrong.pth'}")
    assert_refused(done, "wrong.pth: not readable")
    assert "none.pth: no such file" in refusal(*command, "--pretrained", f"{NETWORK}={tmp_path / 'none.pth'}")
    with bad_server({}) as server:
        _serve_at(monkeypatch, f"{server.url}/{FILE}")
        server.vanish()
        assert f"put it at {tmp_path / 'cache/weights' / FILE}" in refusal(*command)
    assert not (tmp_path / "runs").exists()
