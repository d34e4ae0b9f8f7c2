"""The page's server against those who mean ill, or are slow, over raw sockets."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from raw_requests import TOKEN, ask, is_served, send, status, write_token
from watched import CLASSES, SETTINGS, observe, served

from deploy.errors import UserError
from deploy.events import Events
from deploy.web import open_web
from deploy.web.server import Web


@pytest.fixture
def web() -> Iterator[Web]:
    with served() as web:
        web.publish(observe(0))
        yield web


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Web]:
    """As others reach it: on all addresses, with a token."""
    with served(SETTINGS._replace(host="0.0.0.0", token_file=str(write_token(tmp_path)), names=("drone.lan",))) as web:
        web.publish(observe(0))
        yield web


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
    "rest",
    [
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 2\r\n\r\nab",
        b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
        b"Expect: 100-continue\r\n\r\n",
    ],
)
def test_no_body_is_taken_even_where_its_end_is_plain(web, rest):
    answer = send(web, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + rest)
    assert status(answer) in (400, 413)


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
