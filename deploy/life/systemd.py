"""Telling systemd that the loop is ready, what it does, that it still turns, and that it ends.

The protocol of sd_notify(3): lines of KEY=VALUE in one datagram to the socket that NOTIFY_SOCKET names. Without that
variable nothing is sent. Knows nothing of the unit.
"""

import os
import socket
import time
from typing import Any, Callable, Dict, Mapping, Optional

from deploy.frame import Observation
from deploy.part import Part

# sd_watchdog_enabled(3) asks for half of the limit; a quarter leaves room for one slow frame.
_SHARE = 0.25
_STATUS_EVERY = 1.0  # seconds


class Notifier:
    """A datagram socket to systemd. unsent: datagrams that it did not take; a full socket never holds up the loop."""

    def __init__(self, environment: Optional[Mapping[str, str]] = None) -> None:
        environment = os.environ if environment is None else environment
        self.unsent = 0
        self.watchdog = _watchdog(environment)
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: Optional[socket.socket] = None
        if self._address[:1] in ("/", "\0"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def send(self, *lines: str) -> bool:
        """Send lines such as "READY=1" in one datagram; returns False where systemd did not take it."""
        if self._socket is None:
            return True
        try:
            self._socket.sendto("\n".join(lines).encode("utf-8"), self._address)
        except OSError:
            self.unsent += 1
            return False
        return True

    def extend_start(self, seconds: float) -> None:
        """Ask for so much time from now to become ready, while an engine is built (EXTEND_TIMEOUT_USEC)."""
        self.send("EXTEND_TIMEOUT_USEC={:.0f}".format(seconds * 1e6), "STATUS=starting")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Watchdog(Part):
    """Pets systemd's watchdog, and only from the loop's own thread: a loop that hangs says nothing, and is killed.

    The rule: every turn of the loop counts, with a frame or without. A loop that turns and waits for a lost camera does
    all it can, reopens it, and says "no frame" in its status; killing it would give back no camera, and would take the
    page, the log and the heartbeat of the autopilot link away. A camera's library that never returns keeps a thread of
    the source busy and not the loop, and after some of those the source ends the process; a network, a disk or a part
    that never returns keeps the loop, and that is what the watchdog is for.

    The first turn says READY: bundle, golden frames and network have passed by then. What systemd does not take is said
    again at the next turn.
    """

    name = "systemd"

    def __init__(self, notifier: Optional[Notifier] = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._notifier = notifier or Notifier()
        self._clock = clock
        self._limit = self._notifier.watchdog
        self._is_ready = False
        self._petted = self._told = self._seen = clock()
        self._pets = 0

    def publish(self, observation: Observation) -> None:
        """A turn with a frame."""
        now = self._seen = self._clock()
        age = "{:.0f} ms old".format(observation.age * 1000)
        stale = "" if observation.is_current else ", TOO OLD"
        self._turn(now, "frame {}, {}{}".format(observation.frame.number, age, stale))

    def idle(self, now: float) -> None:
        """A turn without a frame."""
        now = self._clock()
        self._turn(now, "no frame for {:.0f} s".format(now - self._seen))

    def status(self) -> Dict[str, Any]:
        """limit: seconds, None without a watchdog. pets: sent. unsent: what systemd did not take."""
        return {"limit": self._limit, "pets": self._pets, "unsent": self._notifier.unsent}

    def close(self) -> None:
        """Say that it ends on purpose."""
        self._notifier.send("STOPPING=1", "STATUS=stopping")
        self._notifier.close()

    def _turn(self, now: float, text: str) -> None:
        is_first = not self._is_ready
        is_pet = self._limit is not None and (is_first or now - self._petted >= self._limit * _SHARE)
        is_told = is_first or now - self._told >= _STATUS_EVERY
        lines = ["READY=1"] * is_first + ["WATCHDOG=1"] * is_pet + ["STATUS=" + text] * is_told
        if not lines or not self._notifier.send(*lines):
            return
        self._is_ready = True
        self._pets += is_pet
        self._petted = now if is_pet else self._petted
        self._told = now if is_told else self._told


def _watchdog(environment: Mapping[str, str]) -> Optional[float]:
    """The limit in seconds, or None: no watchdog, or one of another process."""
    try:
        limit = int(environment["WATCHDOG_USEC"])
        owner = int(environment.get("WATCHDOG_PID", os.getpid()))
    except (KeyError, ValueError):
        return None
    return limit / 1e6 if limit > 0 and owner == os.getpid() else None
