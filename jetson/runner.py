"""External commands through one seam: shown as a person would type them, logged, their exit status checked.

Knows nothing of what the commands do. One that must not be broken off says so, and Ctrl-C then has to be pressed twice.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from deploy.errors import UserError, refuse

__all__ = ["Command", "Runner"]

# What is said when a command fails: by what its output holds, what would do.
_REMEDIES = (
    (r"no space left on device", "free some space on that disk and run it again"),
    (r"permission denied|requires root", "run it as root or as a user who may use sudo"),
)
_TELLING = re.compile(r"error|fail|no space|not found|does not exist|denied|requires root", re.IGNORECASE)
_REFRESH = 60.0  # seconds between two looks at sudo, which forgets after some minutes
_KILL_AFTER = 15.0  # seconds that a command has to end after it was asked to


@dataclass(frozen=True)
class Command:
    """A command to run.

    Attributes:
        words: program and arguments.
        folder: that it runs in.
        as_root: whether it runs as root, by sudo where we are not.
        if_stopped: what becomes of things if it is broken off; where given, Ctrl-C must be pressed twice.
    """

    words: tuple[str, ...]
    folder: Path
    as_root: bool = False
    if_stopped: str = ""

    @property
    def line(self) -> str:
        """As a person would type it in `folder`."""
        return ("sudo " if self.as_root else "") + shlex.join(self.words)


class Runner:
    """Runs commands one after another, their output line by line into a log and to who watches.

    Args:
        log: takes every command and line of output.
        uid: of the user; root needs no sudo.
        remedies: further pairs of a pattern in the output and what would do, asked before the common ones.
    """

    def __init__(self, log: TextIO, uid: int | None = None, remedies: tuple[tuple[str, str], ...] = ()) -> None:
        self._log = log
        self._uid = os.getuid() if uid is None else uid
        self._remedies = remedies + _REMEDIES
        self._process: subprocess.Popen[str] | None = None
        self._killer: threading.Timer | None = None
        self._held: tuple[str, list[str]] | None = None  # what is said of breaking off, and what Ctrl-C did so far

    def may_be_root(self) -> None:
        """Ask for the password of sudo now, in the foreground, if commands are to run as root and we are not.

        Raises:
            UserError: sudo is not there or says no.
        """
        if self._uid == 0:
            return
        if shutil.which("sudo") is None:
            raise refuse("sudo", "not found", "run it as root, or apt-get install sudo")
        if subprocess.run(["sudo", "-v"], check=False).returncode != 0:
            raise refuse("sudo", "refused", "run it as root or as a user who may use sudo")

    @contextlib.contextmanager
    def unbroken(self, if_stopped: str) -> Iterator[None]:
        """While it lasts, between commands too, Ctrl-C must be pressed twice to break off.

        if_stopped: what becomes of things then.

        Raises:
            KeyboardInterrupt: it was.
        """
        self._held = (if_stopped, [])
        try:
            with self._handled(*self._held):
                yield
        finally:
            self._held = None

    def run(self, command: Command, watch: Callable[[str], str | None] | None = None) -> None:
        """Run a command to its end.

        Args:
            watch: sees every line of output; what it returns ends the command, and is the reason.

        Raises:
            UserError: the exit status is not 0, or `watch` ended it: what was found and what would do.
            KeyboardInterrupt: it was broken off by Ctrl-C.
        """
        status, lines = self.attempt(command, watch)
        if status != 0:
            raise self._failure(command, status, lines)

    def attempt(self, command: Command, watch: Callable[[str], str | None] | None = None) -> tuple[int, list[str]]:
        """The same where failing is an answer too: the exit status, and the last lines of the output."""
        lines: list[str] = []
        if_stopped, presses = self._held or (command.if_stopped, [])
        with self._handled(if_stopped, presses), self._sudo_remembers(command):
            process = self._process = self._start(command)
            try:
                reason = self._follow(process, lines, watch)
            except BaseException:  # nobody would read on, and it would end at its next line
                self._end()
                raise
            finally:
                status = process.wait()
                self._process = None
                if self._killer is not None:
                    self._killer.cancel()
        self._note(f"exit status {status}\n")
        if reason is not None:
            raise UserError(reason if status else f"{reason} (too late: the command had ended)")
        if status != 0 and "stopped" in presses:
            raise KeyboardInterrupt
        return status, lines

    def _follow(
        self, process: subprocess.Popen[str], lines: list[str], watch: Callable[[str], str | None] | None
    ) -> str | None:
        """Read the output to its end into the log, its last lines into `lines`; the reason of `watch` to end it."""
        reason = None
        assert process.stdout is not None
        for line in process.stdout:
            self._note(line)
            lines[:] = [*lines[-40:], line.rstrip()]
            if reason is None and watch is not None:
                reason = watch(line.rstrip())
                if reason is not None:
                    self._end()
        return reason

    def _note(self, text: str) -> None:
        """Write into the log; a disk that is full is no reason to leave a module half-written."""
        with contextlib.suppress(OSError):
            self._log.write(text)
            self._log.flush()

    def _start(self, command: Command) -> subprocess.Popen[str]:
        self._note(f"$ cd {command.folder}\n$ {command.line}\n")
        words, environment = self._really(command)
        try:
            return subprocess.Popen(
                words,
                cwd=command.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                process_group=0,  # Ctrl-C reaches us alone
            )
        except OSError as error:
            raise refuse(command.words[0], error.strerror or error, f"is {command.folder} complete?") from None

    def _really(self, command: Command) -> tuple[list[str], dict[str, str]]:
        """Words and environment to start; NVIDIA's scripts look at USER for root, which a container may not set."""
        environment = dict(os.environ)
        if not command.as_root:
            return list(command.words), environment
        if self._uid == 0:
            return list(command.words), environment | {"USER": "root"}
        return ["sudo", "-n", *command.words], environment

    @contextlib.contextmanager
    def _handled(self, if_stopped: str, presses: list[str]) -> Iterator[None]:
        """Handle Ctrl-C and SIGTERM; `presses` takes what they did, "warned" and "stopped"."""

        def pressed(_number: int, _frame: object) -> None:
            if if_stopped and not presses:
                presses.append("warned")
                print(f"\nwarning: {if_stopped} Press Ctrl-C again to stop all the same.", file=sys.stderr)
                return
            presses.append("stopped")
            self._end()

        before = {number: signal.signal(number, pressed) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def _sudo_remembers(self, command: Command) -> Iterator[None]:
        """Keep sudo from forgetting the password meanwhile, or nothing could be stopped after a quarter of an hour."""
        if not command.as_root or self._uid == 0:
            yield
            return
        ended = threading.Event()

        def refresh() -> None:
            while not ended.wait(_REFRESH):
                subprocess.run(["sudo", "-n", "-v"], check=False, stderr=subprocess.DEVNULL)

        threading.Thread(target=refresh, daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def _end(self) -> None:
        """Ask the command and what it started to end; they are killed if they do not.

        Not by SIGINT, which they ignore where we were started in the background.
        """
        if self._process is None:
            raise KeyboardInterrupt
        group = self._process.pid
        self._send(group, signal.SIGTERM)
        self._killer = threading.Timer(_KILL_AFTER, self._send, (group, signal.SIGKILL))
        self._killer.daemon = True
        self._killer.start()

    def _send(self, group: int, number: signal.Signals) -> None:
        """Signal a group of processes, which are root's where sudo started them."""
        try:
            os.killpg(group, number)
            return
        except ProcessLookupError:
            return
        except PermissionError:
            pass
        kill = ["kill", f"-{number.name.removeprefix('SIG')}", "--", f"-{group}"]
        subprocess.run(["sudo", "-n", *kill], check=False, stderr=subprocess.DEVNULL)

    def _failure(self, command: Command, status: int, lines: list[str]) -> UserError:
        """The error of a command that failed: with the line of its output that says why, and the remedy for that."""
        log = getattr(self._log, "name", "its output")
        for pattern, remedy in self._remedies:
            for line in lines:
                if re.search(pattern, line, re.IGNORECASE):
                    return refuse(command.words[0], f"exit status {status}, {line.strip()}", f"{remedy} (log: {log})")
        telling = [line for line in lines if _TELLING.search(line)] or [line for line in lines if line.strip()]
        found = f"exit status {status}" + (f", {telling[-1].strip()}" if telling else "")
        return refuse(command.words[0], found, f"see {log}")
