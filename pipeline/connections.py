"""Connections to web servers: through the proxy, what an answer means, and how long to wait before asking again.

Knows nothing about what is asked for.
"""

import email.utils
import random
import re
import time
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

from pipeline.errors import refuse

if TYPE_CHECKING:
    import urllib3

__all__ = [
    "NO_CONNECTION",
    "Transient",
    "connections",
    "pause",
    "pause_length",
    "redirects_only",
    "refuse_address",
    "refuse_status",
    "transient_reason",
]

NO_CONNECTION = "no connection; is there a network?"
_LONGEST_PAUSE = 60.0  # seconds


class Transient(Exception):  # noqa: N818 - no error until the attempts are used up
    """What may go better next time. wait: seconds the server asked for, or None."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def connections(url: str, **options: Any) -> "urllib3.PoolManager":
    """Connections for `url` and its like, through the proxy that the environment names for it, if any."""
    import urllib3

    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.netloc):
        return urllib3.ProxyManager(proxy, **options)
    return urllib3.PoolManager(**options)


def refuse_address(url: str) -> None:
    """Refuse what is no address of a web server."""
    import urllib3

    try:
        parts = urllib3.util.parse_url(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.host) and not re.search(r"\s", url)
    except urllib3.exceptions.LocationParseError:
        is_address = False
    if not is_address:
        raise refuse(repr(url), "no web address", "give one that begins with https://")


def refuse_status(url: str, answer: "urllib3.BaseHTTPResponse") -> None:
    """Raise Transient for what may pass, UserError for what will not, and return for what is content."""
    if answer.status in (200, 206, 416):
        return
    if answer.status in (408, 429) or answer.status >= 500:
        raise Transient(f"the server answers {answer.status}", _asked_wait(answer.headers.get("Retry-After", "")))
    raise refuse(url, f"the server answers {answer.status}", "correct the address, or give a local copy by its path")


def _asked_wait(value: str) -> float | None:
    """Seconds that Retry-After asks for, as a number or as a date; None where it says nothing."""
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def redirects_only() -> "urllib3.Retry":
    """Follow redirects and nothing else: what is tried again is decided here."""
    import urllib3

    return urllib3.Retry(total=None, connect=0, read=0, other=0, status=0, redirect=5)


def transient_reason(error: Exception) -> str:
    """What went wrong on the way, in a few words."""
    import urllib3.exceptions as wrong

    cause = error.reason if isinstance(error, wrong.MaxRetryError) and error.reason else error
    if isinstance(cause, wrong.NameResolutionError | wrong.NewConnectionError | wrong.ConnectTimeoutError):
        return NO_CONNECTION
    if isinstance(cause, wrong.TimeoutError):
        return "the server stalls"
    if isinstance(cause, wrong.IncompleteRead | wrong.ProtocolError):
        return "the connection broke off"
    return " ".join(str(cause).split())[:120]


def pause(attempt: int, asked: float | None) -> None:
    """Wait before the next attempt."""
    time.sleep(pause_length(attempt, asked))


def pause_length(attempt: int, asked: float | None) -> float:
    """Seconds: as many as the server asked for, or twice as many each time, with some chance; at most a minute."""
    return min(asked if asked is not None else 0.25 * 2**attempt * random.uniform(0.5, 1.5), _LONGEST_PAUSE)
