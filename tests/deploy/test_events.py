"""Events reach who listens, whatever becomes of the line on standard error."""

import io

import pytest

from deploy.events import Event, Events


class _Gone(io.StringIO):
    """A journal that was restarted, a terminal that was closed, a file on a full disk."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def write(self, text: str) -> int:
        raise self._error


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space"), ValueError("closed")])
def test_standard_error_that_takes_nothing_ends_neither_the_loop_nor_the_event(error):
    events = Events(_Gone(error))
    heard: list[Event] = []
    events.listen(heard.append)
    events.add("error", "camera.lost", "gone")
    assert [event.kind for event in heard] == ["camera.lost"]
    assert events.unprinted == 1


def test_one_kind_is_printed_every_ten_seconds_with_how_many_were_not():
    now, lines = [100.0], io.StringIO()
    events = Events(lines, clock=lambda: now[0])
    for second in (0.0, 1.0, 2.0, 11.0):
        now[0] = 100.0 + second
        events.add("warning", "loop.stale", f"{second}")
    assert lines.getvalue().splitlines() == ["warning: loop.stale: 0.0", "warning: loop.stale: 11.0 (2 more before)"]
    assert events.counts == {"loop.stale": 4}
