"""The page's server against those who mean ill, or are slow, over raw sockets."""

import json
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from watched import CLASSES, SETTINGS, observe, served

from deploy.errors import UserError
from deploy.events import Events
from deploy.web import connections, open_web
from deploy.web.server import Web

TOKEN = "correct-horse-battery"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def web() -> Iterator[Web]:
    with served() as web:
        web.publish(observe(0))
        yield web


@pytest.fixture
def guarded(token_file: Path) -> Iterator[Web]:
    """As others reach it: on all addresses, with a token."""
    with served(SETTINGS._replace(host="0.0.0.0", token_file=str(token_file), names=("drone.lan",))) as web:
        web.publish(observe(0))
        yield web


def port(web: Web) -> int:
    return int(web.address.rpartition(":")[2])


def connect(web: Web, receive: int | None = None) -> socket.socket:
    """receive: bytes of the buffer for what comes in."""
    client = socket.socket()
    if receive is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    client.settimeout(20)
    client.connect(("127.0.0.1", port(web)))
    return client


def read_all(client: socket.socket) -> bytes:
    parts = []
    try:
        while True:
            part = client.recv(65536)
            if not part:
                break
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def send(web: Web, data: bytes) -> bytes:
    """Everything that comes back until the server closes."""
    with connect(web) as client:
        client.sendall(data)
        return read_all(client)


def ask(web: Web, path: str, *lines: str, method: str = "GET", host: str = "localhost") -> bytes:
    text = "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *lines, "", ""])
    return send(web, text.encode("latin-1"))


def status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer[:80]
    return int(answer[9:12])


def is_served(web: Web) -> bool:
    return status(ask(web, "/healthz")) == 200


@pytest.mark.parametrize("path", ["/", "/api/frame", "/api/status", "/metrics", "/healthz", "/page.js", "/nothing"])
def test_nothing_is_told_without_the_token(guarded, path):
    for header in ((), ("Authorization: Bearer wrong-horse-battery",), ("Cookie: skylight=" + TOKEN,)):
        answer = ask(guarded, path, *header)
        assert status(answer) == 401
        assert b"asks for its token" in answer
        assert b"www-authenticate: bearer" in answer.lower()
    assert guarded.status()["encoded"] == 0


def test_token_in_a_header_lets_in(guarded):
    good = ask(guarded, "/api/status", "Authorization: Bearer " + TOKEN)
    assert status(good) == 200
    twice = ask(guarded, "/api/status", "Authorization: Bearer " + TOKEN, "Authorization: Bearer x")
    assert status(twice) in (400, 401)
    assert status(ask(guarded, "/api/status?token=" + TOKEN)) == 401, "an address is no place for a token"


def test_link_sets_a_cookie_that_scripts_and_other_sites_do_not_get(guarded):
    assert status(ask(guarded, "/login?token=wrong")) == 401
    answer = ask(guarded, "/login?token=" + TOKEN)
    assert status(answer) == 303
    head = answer.decode().split("\r\n")
    assert "Location: /" in head
    (cookie,) = [line.partition(": ")[2] for line in head if line.startswith("Set-Cookie")]
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    assert TOKEN not in cookie
    assert status(ask(guarded, "/", "Cookie: other=1; " + cookie.split(";")[0])) == 200
    assert status(ask(guarded, "/", "Cookie: " + cookie.split(";")[0] + "0")) == 401


def test_wrong_tokens_are_counted_and_told_once(guarded):
    for _ in range(20):
        ask(guarded, "/", "Authorization: Bearer wrong")
    assert guarded.status()["refused"] == 20


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("short", 0o600, "the token has 5 characters, fewer than 16"),
        ("", 0o600, "the token has 0 characters"),
        ("sixteen letters and spaces", 0o600, "white space"),
        (TOKEN, 0o644, "everybody can read"),
        (None, 0, "No such file or directory; make one: python3 -c"),
    ],
)
def test_a_token_that_will_not_do_is_refused(tmp_path, text, mode, message):
    path = tmp_path / "token"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    settings = SETTINGS._replace(host="0.0.0.0", token_file=str(path))
    with pytest.raises(UserError, match=message):
        open_web(settings, CLASSES, dict, Events(stream=None))


def test_others_are_not_reached_without_a_token():
    with pytest.raises(UserError, match="others can reach it"):
        Web(SETTINGS._replace(host="0.0.0.0"), CLASSES, dict, Events(stream=None))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:9", "LOCALHOST:1"])
def test_own_names_are_taken(web, host):
    assert status(ask(web, "/healthz", host=host)) == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "192.168.1.5", "", "localhost.evil", "a@b"])
def test_other_names_are_refused(web, host):
    assert status(ask(web, "/healthz", host=host)) in (400, 421)


def test_names_and_addresses_of_a_drone_that_others_reach(guarded):
    for host, expected in (("192.168.1.5:80", 401), ("drone.lan", 401), ("evil.example", 421)):
        assert status(ask(guarded, "/healthz", host=host)) == expected


def test_one_host_exactly(web):
    assert status(send(web, b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n")) == 400
    assert status(send(web, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")) == 400


@pytest.mark.parametrize(
    "path",
    [
        "/../settings.py",
        "/static/../../settings.py",
        "/..%2f..%2fsettings.py",
        "/%2e%2e/settings.py",
        "/page.js/../../server.py",
        "/page.css%00",
        "/static/page.js",
        "/etc/passwd",
        "/\\..\\settings.py",
    ],
)
def test_no_file_but_the_page_s_own_is_given(web, path):
    assert status(ask(web, path)) in (400, 404)


@pytest.mark.parametrize("target", ["http://localhost/", "//evil.example/", "*", "localhost:80", "/a\tb", "/\xe9"])
def test_addresses_that_are_no_path_are_refused(web, target):
    assert status(ask(web, target)) == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "BREW"])
def test_only_reading_is_there(web, method):
    answer = ask(web, "/", method=method)
    assert status(answer) == 405
    assert b"Allow: GET, HEAD" in answer
    assert b"access-control-" not in answer.lower()


def test_head_has_no_body(web):
    head, _, rest = ask(web, "/page.js", method="HEAD").partition(b"\r\n\r\n")
    assert b"200 OK" in head
    assert rest == b""


def test_every_answer_is_guarded_against_other_sites(web):
    for answer in (ask(web, "/"), ask(web, "/nothing"), ask(web, "/", method="POST"), ask(web, "/metrics")):
        head = answer.partition(b"\r\n\r\n")[0].decode()
        assert "script-src 'self';" in head
        assert "unsafe" not in head
        assert "frame-ancestors 'none'" in head
        assert "X-Content-Type-Options: nosniff" in head
        assert "Cross-Origin-Resource-Policy: same-origin" in head
        assert "access-control-" not in head.lower()


_SECOND = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 44\r\n",
        b"Content-Length: 0\r\nContent-Length: 44\r\n",
        b"Content-Length: 0, 44\r\n",
        b"Content-Length: +44\r\n",
        b"Content-Length : 44\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: identity\r\nContent-Length: 4\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"X: y\r\n Content-Length: 44\r\n",
        b"Expect: 100-continue\r\nContent-Length: 9\r\n",
    ],
)
def test_a_request_hidden_in_another_is_never_answered(web, lines):
    """What one server takes for a body and the next for a request: the connection is closed instead."""
    answer = send(web, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + lines + b"\r\n" + _SECOND)
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert b"skylight_" not in answer
    if not lines.startswith(b"X: y"):  # a folded line is part of the value before it, or refused
        assert answer == b"" or status(answer) in (400, 413), answer[:200]
    assert is_served(web)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 80 + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 100000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 40 + b"\r\n\r\n",
        b"\r\n\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    ],
)
def test_oversized_and_senseless_requests_are_refused(web, data):
    answer = send(web, data)
    assert answer == b"" or status(answer) in (400, 405, 413, 431)
    assert is_served(web)


@pytest.mark.parametrize("after", ["-1", "x", "1e3", "9" * 40, "%D9%A1", "1&after=2"])
def test_numbers_that_are_none_are_refused(web, after):
    assert status(ask(web, "/api/frame?after=" + after)) == 400
    assert status(ask(web, "/api/status?after=" + after)) == 400


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


def test_strangers_make_room_for_who_has_the_token(token_file):
    lines = ("GET /healthz HTTP/1.1", "Host: localhost", "Authorization: Bearer " + TOKEN, "", "")
    request = "\r\n".join(lines).encode("ascii")
    with served(SETTINGS._replace(token_file=str(token_file), clients=6)) as web:
        crowd = [connect(web) for _ in range(40)]
        with connect(web) as known:
            known.sendall(
                b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n" % TOKEN.encode()
            )
            assert known.recv(4096).startswith(b"HTTP/1.1 503")
            crowd += [connect(web) for _ in range(40)]
            time.sleep(0.3)
            assert web.status()["connections"] <= 6
            known.sendall(
                b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n" % TOKEN.encode()
            )
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
