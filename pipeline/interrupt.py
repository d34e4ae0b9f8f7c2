"""Ctrl-C and SIGTERM as a question that long work asks at a safe moment, instead of an exception at any."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

__all__ = ["Interrupted", "StopQuestion", "StopRequest", "say_what_is_kept", "stop_on_signals"]


class Interrupted(Exception):  # noqa: N818 - not an error
    """The user asked to stop; the message says what was kept and how to go on."""


class StopQuestion(Protocol):
    """What long work asks whether to stop."""

    @property
    def is_set(self) -> bool:
        """Whether a stop was asked for."""


class StopRequest:
    """Whether a stop was asked for. A second Ctrl-C does not wait."""

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Receive the signal."""
        if self.is_set:
            raise KeyboardInterrupt
        self.is_set = True


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Catch SIGINT and SIGTERM inside the block; outside the main thread nothing is caught."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def say_what_is_kept(message: str) -> Iterator[None]:
    """Ctrl-C or SIGTERM inside the block ends at once what it reaches, and raises Interrupted with that message.

    A library in C that is reached may make another exception of it (protobuf, while it is imported, a TypeError).
    Outside the main thread nothing is caught.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    request = _EndingRequest()
    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except (Interrupted, SystemExit):  # it has said so itself
        raise
    except BaseException as error:
        if request.is_set or isinstance(error, KeyboardInterrupt):
            raise Interrupted(message) from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _EndingRequest:
    """Ends at once, and knows that it did."""

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.is_set = True
        raise KeyboardInterrupt
