"""What a signal does while the drone starts, and while it flies."""

import signal
import subprocess
import sys
import time

import pytest

from deploy.stop import Stop

_DEAF = """
import os, signal, sys, threading, time
from deploy.stop import Stop
stop = Stop(is_starting=True, at_last=lambda: print("forgiven", flush=True), patience=0.3)
threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
try:
    time.sleep(20)
except KeyboardInterrupt:
    time.sleep(20)  # a library that builds an engine and lets no exception through
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_start_ends_at_once_and_a_flight_after_its_turn(number):
    stop = Stop(is_starting=True)
    try:
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            signal.raise_signal(number)
            time.sleep(5)
    finally:
        stop.restore()
    stop = Stop(is_starting=True)
    try:
        stop.begin()
        signal.raise_signal(number)
        assert stop()
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            signal.raise_signal(number)
            time.sleep(5)
    finally:
        stop.restore()


def test_start_that_hears_nothing_is_ended_all_the_same():
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", _DEAF], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (130, "forgiven\n"), done.stderr
    assert time.monotonic() - begin < 15
