"""What a drone is asked, as commands for its shell, and what its answers mean. Asks nobody.

Scripts get every value as an argument of `sh -c`, so that no value is ever a part of a script. Their answers are lines
KEY=VALUE; whatever else a login shell prints is passed over, and so is a value that is not as expected.
"""

import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = [
    "JOURNAL", "RESET", "RESTART", "STAGING", "STOP", "STORE", "Look", "Page", "Place", "install_words",
    "look_words", "read_folder", "read_look", "ready_words", "remove_words", "rollback_words",
]  # fmt: skip

SERVICE = "skylight-detect.service"
STORE = "/var/lib/skylight/bundles"
STAGING = "/var/lib/skylight/incoming"
OWNER = "skylight"

# The exact words that jetson/package/sudoers.d/skylight allows.
_AS_OWNER = ("sudo", "-n", "-u", OWNER, "skylight-detect")
RESTART = ("sudo", "-n", "systemctl", "--no-block", "restart", SERVICE)
STOP = ("sudo", "-n", "systemctl", "stop", SERVICE)
RESET = ("sudo", "-n", "systemctl", "reset-failed", SERVICE)
JOURNAL = ("journalctl", "--unit", SERVICE, "--lines", "8", "--output", "cat", "--no-pager")
_NEEDED = ("sudo", "systemctl", "skylight-detect", "python3", "sha256sum", "timeout")
_PATIENCE = "30"  # seconds for one look: a drone that hangs is not healthy

_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,190}")
_TEXT = 200  # characters of a page's answer

# store, service, port of the page, the program that asks it
_LOOK = r"""
systemctl show "$2" --property LoadState,ActiveState,SubState,NRestarts,MainPID 2>/dev/null
printf 'current=%s\n' "$(readlink "$1/current")"
printf 'previous=%s\n' "$(readlink "$1/previous")"
printf 'notes=%s\n' "$(tr -d '\n' 2>/dev/null <"$1/notes.json")"
printf 'page=%s\n' "$(python3 -c "$4" "$3" 2>/dev/null)"
"""
_PAGE = r"""
import sys, urllib.error, urllib.request
status, text = 0, ""
try:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    answer = opener.open("http://127.0.0.1:" + sys.argv[1] + "/healthz", timeout=3)
    status, text = answer.getcode(), answer.read(200)
except urllib.error.HTTPError as error:
    status, text = error.code, error.read(200)
except Exception:
    pass
print(status, ascii(text))
"""
_READY = r"""
for one in {needed}; do command -v "$one" >/dev/null 2>&1 || printf 'missing=%s\n' "$one"; done
{allowed}
[ -d "$1" ] && [ -w "$1" ] || printf 'staging=no\n'
"""


@dataclass(frozen=True)
class Place:
    """Where things are on a drone.

    Attributes:
        store: folder of the installed bundles.
        staging: folder that bundles are copied into, and read from by whoever owns the store.
        page: port of the drone's page, on its own loopback address.
    """

    store: str = STORE
    staging: str = STAGING
    page: int = 8080

    @property
    def incoming(self) -> str:
        """The copy that is under way."""
        return f"{self.staging}/bundle"


@dataclass(frozen=True)
class Page:
    """status: of HTTP at /healthz, 0 where nobody answered. text: what it said."""

    status: int = 0
    text: str = ""


@dataclass(frozen=True)
class Look:
    """A drone at one moment, as far as it could be seen.

    Attributes:
        load, active, sub: states of the service, of systemd. restarts: by systemd alone. process: number, 0 for none.
        current, previous: folder names in the store.
        started, starts: the bundle that was started last, and how often without having lasted.
        failed: why bundles are marked, by folder.
        missing: commands that are not there; forbidden: those that sudo does not allow.
        has_staging: whether we may write where bundles are copied to.
    """

    load: str = ""
    active: str = ""
    sub: str = ""
    restarts: int = 0
    process: int = 0
    current: str | None = None
    previous: str | None = None
    started: str = ""
    starts: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    page: Page = Page()
    missing: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    has_staging: bool = True


def look_words(place: Place) -> tuple[str, ...]:
    """The command whose lines `read_look` reads."""
    return ("timeout", _PATIENCE, "sh", "-c", _LOOK, "sh", place.store, SERVICE, str(place.page), _PAGE)


def ready_words(place: Place) -> tuple[str, ...]:
    """The command that asks, before anything is done, whether all that will be needed is there and allowed."""
    checks = (f"{_listing(words)} >/dev/null 2>&1 || echo forbidden={number}" for number, words in _sudo(place))
    script = _READY.format(needed=shlex.join(_NEEDED), allowed="\n".join(checks))
    return ("sh", "-c", script, "sh", place.staging)


def install_words(place: Place) -> tuple[str, ...]:
    """The command that installs what was copied."""
    return (*_AS_OWNER, "install", "--json", place.incoming, *_store(place))


def rollback_words(place: Place) -> tuple[str, ...]:
    """The command that takes back what is current."""
    return (*_AS_OWNER, "rollback", "--json", *_store(place))


def remove_words(place: Place) -> tuple[str, ...]:
    """The command that removes the copy."""
    return ("rm", "-rf", "--", place.incoming, f"{place.incoming}.of")


def read_look(lines: Iterable[str], place: Place) -> Look:
    """What the lines of `look_words` and of `ready_words` say."""
    pairs = [line.partition("=")[::2] for line in lines if "=" in line]
    last = dict(pairs)
    notes = _json(last.get("notes", ""))
    failed = notes.get("failed")
    sudo = {str(number): shlex.join(words) for number, words in _sudo(place)}
    return Look(
        load=last.get("LoadState", ""),
        active=last.get("ActiveState", ""),
        sub=last.get("SubState", ""),
        restarts=_number(last.get("NRestarts")),
        process=_number(last.get("MainPID")),
        current=_folder(last.get("current")),
        previous=_folder(last.get("previous")),
        started=_folder(notes.get("started")) or "",
        starts=_number(str(notes.get("starts"))),
        failed={str(name): str(why) for name, why in failed.items()} if isinstance(failed, dict) else {},
        page=_page(last.get("page", "")),
        missing=tuple(value for key, value in pairs if key == "missing" and value in _NEEDED),
        forbidden=tuple(sudo[value] for key, value in pairs if key == "forbidden" and value in sudo),
        has_staging="staging" not in last,
    )


def read_folder(lines: Iterable[str], key: str = "folder") -> str | None:
    """The folder that `install` or `rollback` names in its JSON, or None."""
    found = None
    for line in lines:
        if line.startswith("{"):
            found = _folder(_json(line).get(key)) or found
    return found


def _sudo(place: Place) -> list[tuple[int, tuple[str, ...]]]:
    """Every command that needs sudo."""
    return list(enumerate((install_words(place), rollback_words(place), RESTART, STOP, RESET)))


def _listing(words: tuple[str, ...]) -> str:
    """The command of sudo(8) that says whether it would run `words`."""
    end = 4 if words[2] == "-u" else 2
    return shlex.join((*words[:end], "-l", *words[end:]))


def _store(place: Place) -> tuple[str, ...]:
    return () if place.store == STORE else ("--store", place.store)


def _json(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _folder(value: object) -> str | None:
    return value if isinstance(value, str) and _FOLDER.fullmatch(value) else None


def _number(text: str | None) -> int:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,9}", text) else 0


def _page(text: str) -> Page:
    found = re.fullmatch(r"([0-9]{1,3}) b?(['\"])(.*)\2", text)
    return Page(int(found[1]), found[3].replace("\\n", " ").strip()[:_TEXT]) if found else Page()
