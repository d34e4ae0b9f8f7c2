"""Runs `skylight` in a process of its own, as a user would, forked from one that has imported its libraries already.

Importing torch takes longer than most commands of the tests; the first command of a run pays for it alone. What a
command sees is what it sees from a shell: its own process, arguments, folder and standard streams. One that is given an
environment runs from the start, since libraries read theirs when they are imported.
"""

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, NoReturn

_LIBRARIES = ("torch", "torch._dynamo", "torchvision", "matplotlib.pyplot", "cv2", "onnx", "pipeline.training")


class Started:
    """A command that runs; `communicate`, `poll` and `send_signal` are those of subprocess.Popen."""

    def __init__(self, words: list[str], line: int, out: Any, err: Any) -> None:
        self.args, self.returncode = words, None
        self._line, self._out, self._err = line, out, err
        self.pid = _number(line)

    returncode: int | None

    def poll(self) -> int | None:
        """The exit status, or None while it runs; less than 0 is the signal that ended it."""
        if self.returncode is None and select.select([self._line], [], [], 0)[0]:
            self._finish()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: it runs still after `timeout` seconds.
        """
        if self.returncode is None:
            if not select.select([self._line], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            self._finish()
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; what it wrote to standard output and to standard error."""
        self.wait(timeout)
        return _text(self._out), _text(self._err)

    def send_signal(self, number: int) -> None:
        """Send a signal to it."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def _finish(self) -> None:
        self.returncode = _number(self._line)
        os.close(self._line)


class Forked:
    """A process that waits with everything imported, and forks for every command."""

    def __init__(self) -> None:
        self._line, other = socket.socketpair()
        with other:
            command = [sys.executable, __file__, str(other.fileno())]
            environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}  # as the command sets it
            self._process = subprocess.Popen(command, pass_fds=[other.fileno()], env=environment)

    def start(self, words: list[str], cwd: Any = None, code: str = "") -> Started:
        """Start `skylight WORDS`, or Python code that finds these words in sys.argv; nothing to read."""
        job = {"words": ["skylight", *words], "code": code, "cwd": os.fspath(cwd or Path.cwd())}
        told = json.dumps({**job, "environment": dict(os.environ)}).encode()
        out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115, read at the end
        given, (line, status) = os.open(os.devnull, os.O_RDONLY), os.pipe()
        socket.send_fds(self._line, [len(told).to_bytes(4, "big")], [given, out.fileno(), err.fileno(), status])
        self._line.sendall(told)
        os.close(given)
        os.close(status)
        return Started(words, line, out, err)

    def run(self, words: list[str], timeout: float, **options: Any) -> subprocess.CompletedProcess[str]:
        """Start it and wait for its end, like subprocess.run; what takes longer than `timeout` seconds is killed."""
        process = self.start(words, **options)
        try:
            out, err = process.communicate(timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            raise
        return subprocess.CompletedProcess(words, process.wait(), out, err)

    def close(self) -> None:
        """End the process."""
        self._line.close()
        self._process.wait()


def _text(file: Any) -> str:
    file.seek(0)
    text: str = file.read().decode().replace("\r\n", "\n")
    return text


def _number(line: int) -> int:
    data = os.read(line, 4)
    assert len(data) == 4, "the process that forks is gone"
    return int.from_bytes(data, "big", signed=True)


def _serve(line: socket.socket) -> str:
    """Fork for every command; returns in the child that is to run it alone, with code to run or nothing."""
    while True:
        size, files, _, _ = socket.recv_fds(line, 4, 4)
        if not size:
            sys.exit(0)
        data = b""
        while len(data) < int.from_bytes(size, "big"):
            data += line.recv(1 << 20)
        job = json.loads(data)
        if not os.fork():
            line.close()
            return _mind(job, files)
        for file in files:
            os.close(file)
        while True:  # minders that are done
            try:
                if not os.waitpid(-1, os.WNOHANG)[0]:
                    break
            except ChildProcessError:
                break


def _mind(job: dict[str, Any], files: list[int]) -> str:
    """Fork the command itself and tell its number and status; several may run at a time."""
    status = files.pop()
    os.set_inheritable(status, False)
    child = os.fork()
    if child:
        os.write(status, child.to_bytes(4, "big"))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(status, code.to_bytes(4, "big", signed=True))
        os._exit(0)
    os.close(status)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.argv = job["words"]
    return str(job["code"])


def _run(code: str) -> NoReturn:
    """Run the command or `code`, and end as Python ends, but for taking apart every module that was imported."""
    from pipeline.cli import main

    status: Any = 0
    try:
        if code:
            exec(code, {"__name__": "__main__"})
        else:
            main()
    except SystemExit as end:
        status = end.code or 0
        if not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the interpreter does
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


if __name__ == "__main__":
    import importlib

    sys.path.pop(0)  # this folder, which a console script has not
    for library in _LIBRARIES:
        importlib.import_module(library)
    gc.collect()
    gc.freeze()  # what is imported is garbage to no command
    _run(_serve(socket.socket(fileno=int(sys.argv[1]))))
