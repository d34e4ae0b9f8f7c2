"""Who is let in: which requests are refused before anything is done for them. Does no input or output.

Only GET and HEAD without a body pass, so that no two readers can disagree on where a request ends, whatever the
library below makes of lengths and encodings (RFC 9112, section 11.2, request smuggling).
"""

import hashlib
import hmac
import ipaddress
import re
import socket
from typing import Collection, Dict, List, NamedTuple, Optional, Sequence, Tuple

COOKIE = "skylight"
_COOKIE_AGE = 7 * 24 * 3600  # seconds
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2, token
_TARGET = re.compile(r"/(?!/)[!-~]*")
_HEADERS = 50


class Request(NamedTuple):
    """method: GET or HEAD. path: with its leading slash, as it was sent. query: what follows the question mark.

    headers: by name in small letters, the values in order.
    """

    method: str
    path: str
    query: str
    headers: Dict[str, List[str]]


class Refusal(NamedTuple):
    """status: of HTTP. text: one line for a person."""

    status: int
    text: str


class Door:
    """Knows the token, None for none, and the names of this machine."""

    def __init__(self, token: Optional[str], is_local: bool, names: Collection[str] = ()) -> None:
        """is_local: whether only this machine reaches the server. names: further host names in small letters."""
        self._token = token.encode("ascii") if token is not None else None
        self._names = {"localhost"} | {name.lower() for name in names}
        self._is_local = is_local
        if not is_local:
            own = socket.gethostname().lower()
            self._names |= {own, own.split(".")[0] + ".local"}

    def check(self, method: str, target: str, headers: Sequence[Tuple[str, str]]) -> Tuple[Request, Optional[Refusal]]:
        """The request, and why it is refused, if it is: then the connection must be closed."""
        values: Dict[str, List[str]] = {}
        for name, value in headers:
            values.setdefault(name.lower(), []).append(value)
        path, _, query = target.partition("?")
        request = Request(method, path, query, values)
        return request, self._shape(request, target, headers) or self._host(values.get("host", []))

    def knows(self, request: Request) -> Optional[bool]:
        """Whether the request shows the token; None where it shows nothing, and True where none is needed."""
        if self._token is None:
            return True
        shown = [value[7:].strip() for value in request.headers.get("authorization", []) if _is_bearer(value)]
        if shown:
            return all(_same(value, self._token) for value in shown)
        cookies = [value for line in request.headers.get("cookie", []) for value in _cookies(line)]
        if cookies:
            return any(_same(value, self._ticket()) for value in cookies)
        return None

    def cookie(self, shown: str) -> Optional[str]:
        """The header Set-Cookie for who shows the token, or None; no script can read the cookie, no other site send it.

        It holds a hash, so that the token cannot be taken out of a browser.
        """
        if self._token is None or not _same(shown, self._token):
            return None
        text = "{}={}; Max-Age={}; Path=/; HttpOnly; SameSite=Lax"
        return text.format(COOKIE, self._ticket().decode("ascii"), _COOKIE_AGE)

    def _ticket(self) -> bytes:
        return hmac.new(self._token or b"", b"skylight page", hashlib.sha256).hexdigest().encode("ascii")

    def _shape(self, request: Request, target: str, headers: Sequence[Tuple[str, str]]) -> Optional[Refusal]:
        if request.method not in ("GET", "HEAD"):
            return Refusal(405, "only GET and HEAD")
        if not _TARGET.fullmatch(target):
            return Refusal(400, "the address must be a path")
        if len(headers) > _HEADERS or not all(_NAME.fullmatch(name) for name in request.headers):
            return Refusal(400, "too many headers, or a name that is none")
        if "transfer-encoding" in request.headers or "expect" in request.headers:
            return Refusal(400, "no request has a body here")
        if request.headers.get("content-length", ["0"]) != ["0"]:
            return Refusal(413, "no request has a body here")
        return None

    def _host(self, given: List[str]) -> Optional[Refusal]:
        """Refuse names that are not ours: another site's name may lead here, and its scripts with it (DNS rebinding).

        An address is no name, so nobody else can own it; where only this machine listens it must be of this machine.
        """
        if len(given) != 1:
            return Refusal(400, "one header Host is needed")
        name = _without_port(given[0].strip().lower())
        try:
            is_ours = not self._is_local or ipaddress.ip_address(name.strip("[]")).is_loopback
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            is_ours = name in self._names
        return None if is_ours else Refusal(421, "this machine has another name; see names in [web]")


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _is_bearer(value: str) -> bool:
    return value[:7].lower() == "bearer "


def _cookies(line: str) -> List[str]:
    pairs = [part.strip().partition("=") for part in line.split(";")]
    return [value for name, _, value in pairs if name == COOKIE]


def _same(shown: str, secret: bytes) -> bool:
    """In a time that tells neither where they differ nor how long the secret is."""
    given = hashlib.sha256(shown.encode("utf-8", "surrogateescape")).digest()
    return hmac.compare_digest(given, hashlib.sha256(secret).digest())
