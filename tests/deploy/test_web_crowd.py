"""The page's server when many come, and when they are slow or take nothing: the others watch on, and nothing grows."""

import json
import struct
import time
from collections.abc import Iterator

import pytest
from raw_requests import TOKEN, ask, connect, is_served, read_all, write_token
from watched import SETTINGS, observe, served

from deploy.web import connections
from deploy.web.server import Web


@pytest.fixture
def web() -> Iterator[Web]:
    with served() as web:
        web.publish(observe(0))
        yield web


def test_slow_requests_time_out(monkeypatch):
    monkeypatch.setattr(connections, "_REQUEST_SECONDS", 1.0)
    with served() as web, connect(web) as slow, connect(web) as silent:
        web.publish(observe(0))
        begin = time.monotonic()
        slow.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        slow.settimeout(0.2)
        closed = False
        while not closed and time.monotonic() - begin < 15:
            try:
                slow.sendall(b"X: y\r\n")  # a byte now and then does not keep it open
                closed = slow.recv(1000) == b""
            except (BrokenPipeError, ConnectionResetError):
                closed = True
            except TimeoutError:
                pass
        assert closed
        assert read_all(silent) == b""


def test_who_does_not_take_an_answer_is_dropped_and_the_others_watch_on(monkeypatch):
    """A half-open connection: it asked, and reads nothing, ever."""
    monkeypatch.setattr(connections, "_ANSWER_SECONDS", 1.5)
    with served(SETTINGS._replace(width=1920, quality=95)) as web:
        noise = observe(0, size=(1920, 1080))
        web.publish(noise)
        stalled = connect(web, receive=4096)
        stalled.sendall(b"GET /api/frame HTTP/1.1\r\nHost: localhost\r\n\r\n" * 40)
        begin, numbers = time.monotonic(), []
        while web.status()["dropped"] == 0 and time.monotonic() - begin < 20:
            web.publish(noise)
            answer = ask(web, "/api/frame")
            numbers.append(struct.unpack(">I", answer.partition(b"\r\n\r\n")[2][:4])[0])
        assert web.status()["dropped"] == 1
        assert len(numbers) > 3
        stalled.close()


def test_a_slow_client_gets_fewer_frames_and_never_old_ones():
    with served() as web, connect(web) as client:
        for step in range(4):
            for number in range(50):  # published while it was busy with the one before
                web.publish(observe(number % 3))
            time.sleep(0.05)
            client.sendall(b"GET /api/frame?after=%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % (50 * step))
            head, _, rest = client.recv(1 << 20).partition(b"\r\n\r\n")
            total = int(head.decode().lower().partition("content-length: ")[2].split("\r\n")[0])
            while len(rest) < total:
                rest += client.recv(1 << 20)
            (length,) = struct.unpack(">I", rest[:4])
            assert json.loads(rest[4 : 4 + length])["number"] == 50 * (step + 1)
        assert web.status()["encoded"] == 4, "one for each picture it took, none for the 196 between"


def test_strangers_make_room_for_who_has_the_token(tmp_path):
    lines = ("GET /healthz HTTP/1.1", "Host: localhost", "Authorization: Bearer " + TOKEN, "", "")
    request = "\r\n".join(lines).encode("ascii")
    with served(SETTINGS._replace(token_file=str(write_token(tmp_path)), clients=6)) as web:
        crowd = [connect(web) for _ in range(40)]
        with connect(web) as known:
            known.sendall(request)
            assert known.recv(4096).startswith(b"HTTP/1.1 503")
            crowd += [connect(web) for _ in range(40)]
            time.sleep(0.3)
            assert web.status()["connections"] <= 6
            known.sendall(request)
            assert known.recv(4096).startswith(b"HTTP/1.1 503"), "who is known keeps the place"
        for client in crowd:
            client.close()


def test_many_connections_leave_nothing_behind(web):
    for _ in range(300):
        connect(web).close()
    end = time.monotonic() + 10
    while web.status()["connections"] and time.monotonic() < end:
        assert is_served(web)
        time.sleep(0.1)
    assert web.status()["connections"] <= 1


def test_publishing_goes_on_while_clients_stall(web):
    """Encodes are counted, not timed: publishing makes none, however many wait."""
    stalled = [connect(web, receive=4096) for _ in range(8)]
    for client in stalled:
        client.sendall(b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
    before = web.status()["encoded"]
    observation = observe(1)
    for _ in range(2000):
        web.publish(observation)
    assert web.status()["encoded"] == before
    for client in stalled:
        client.close()
