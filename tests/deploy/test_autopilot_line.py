"""A line that is not there, or comes and goes, costs the flight nothing, and a thread that ended is noticed."""

import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from autopilot_process import free_port, observation, until

from deploy.autopilot import part as module
from deploy.autopilot.link import Link, parse_address
from deploy.autopilot.part import MavlinkPart
from deploy.autopilot.settings import MavlinkSettings
from deploy.autopilot.timesync import TimeSync
from deploy.events import Events
from deploy.geometry import GeometrySettings, Sight


def make(connection: str, **settings: Any) -> MavlinkPart:
    sight = Sight(GeometrySettings(field_of_view=60.0), ("Arch",))
    return MavlinkPart(MavlinkSettings(connection=connection, **settings), sight, ("Arch",), Events(None))


def test_line_that_is_not_there_does_not_keep_the_processor_busy(monkeypatch):
    turns: list[float] = []
    real = module.wait_for

    def counted(link: Link, wake: int, seconds: float) -> tuple[bool, bool]:
        turns.append(seconds)
        return real(link, wake, seconds)

    monkeypatch.setattr(module, "wait_for", counted)
    part = make("/dev/ttyNotHere,57600")
    time.sleep(1.0)
    part.close()
    assert 3 < len(turns) < 30, "turns of its thread in a second"


class _Unreachable:
    """A UDP socket while the autopilot's network is away."""

    def __init__(self, number: int) -> None:
        self.number = number

    def sendto(self, *_: object) -> int:
        raise OSError(self.number, os.strerror(self.number))

    def close(self) -> None:
        raise AssertionError("nothing is won by another socket")


@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EPERM])
def test_network_that_is_away_is_no_reason_to_open_the_socket_again(number):
    told: list[tuple[bool, str]] = []
    link = Link(parse_address(f"udpout:127.0.0.1:{free_port()}"), time.monotonic, lambda *words: told.append(words))
    assert link.open()
    link._socket.close()  # type: ignore[union-attr]
    link._socket = _Unreachable(number)  # type: ignore[assignment]
    assert not link.write(b"x")
    assert (link.unsent, len(told)) == (1, 1)


def test_name_that_cannot_be_one_is_a_line_that_does_not_open():
    part = make("udpout:{}:14550".format("a" * 70))
    until(lambda: part._events.newest())
    time.sleep(0.1)
    assert part._thread.is_alive()
    part.publish(observation())
    part.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_thread_that_ended_ends_the_loop_also_while_there_is_no_frame():
    part = make(f"udpout:127.0.0.1:{free_port()}")
    part._send = None  # type: ignore[assignment,method-assign]
    part._thread.join(5)
    with pytest.raises(RuntimeError, match="line ended"):
        part.idle(time.monotonic())
    part.close()


def _hammer(sync: TimeSync, is_over: threading.Event) -> None:
    number = 0
    while not is_over.is_set():
        number += 1
        sync.asked(number)
        sync.answered(number, number + number % 7, number + 5)
        if number % 11 == 0:
            sync.reset()


def test_status_may_be_asked_while_answers_come():
    sync, is_over = TimeSync(), threading.Event()
    before = sys.getswitchinterval()
    thread = threading.Thread(target=_hammer, args=(sync, is_over))
    questions: list[Callable[[], object]] = [
        lambda: sync.is_settled,
        lambda: sync.round_trip,
        lambda: sync.offset,
        lambda: sync.to_theirs(0),
    ]
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        for _ in range(20000):
            for question in questions:
                question()
    finally:
        is_over.set()
        thread.join()
        sys.setswitchinterval(before)


def test_autopilot_that_started_later_has_an_offset_too():
    sync = TimeSync()
    for number in range(8):
        sync.asked(number)
        sync.answered(number, number - 5000, number)
    assert (sync.offset, sync.to_theirs(0)) == (-5000, None)
