"""Progress bars on a terminal and in a log."""

import os
import pty
import subprocess
import sys

import pytest

CODE = """
from pipeline import progress
progress._LOG_EVERY = {every}
with progress.Bars() as bars:
    for done in range(1, 201):
        bars.show("read set", done, 200, is_minor=True)
        bars.show("train a", done, 200, f"loss {{done}}")
"""


@pytest.mark.parametrize(("every", "lines"), [(30, 1), (0, 400)])
def test_in_a_log_a_line_now_and_then_and_no_control_characters(every: int, lines: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(every=every)], capture_output=True, text=False, timeout=60, check=True
    )
    text = done.stderr.decode()
    assert text.count("\n") == len(text.splitlines()) == lines
    assert text.splitlines()[-1] == "train a: 200 of 200 loss 200"
    assert not any(ord(character) < 32 and character != "\n" for character in text)
    assert done.stdout == b""


def test_on_a_terminal_bars_are_drawn_over() -> None:
    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen([sys.executable, "-c", CODE.format(every=30)], stderr=slave, env=environment)
    os.close(slave)
    text = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not part:
            break
        text += part
    assert process.wait(timeout=60) == 0
    assert b"\r" in text
    assert b"200/200" in text
    assert text.count(b"\n") < 50
