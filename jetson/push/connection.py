"""Commands on a drone through OpenSSH: what they answered, and, in one line, why there is no answer.

What a drone answers is shown and parsed, never trusted: no word of it becomes part of a command.
"""

import re
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import UserError, refuse
from jetson.push.address import Address
from jetson.runner import Command, Runner

__all__ = ["Answer", "Connection", "LostError", "printable"]

LOST = 255  # ssh(1): "exits with the exit status of the remote command or with 255 if an error occurred"
_KEY = "ssh-copy-id {name}, or name a key with --identity (one with a passphrase must be in ssh-agent: ssh-add)"
_KNOWN = "call ssh once by hand, and compare with ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on the drone"
_CHANGED = "if the drone was flashed anew, ssh-keygen -R {host}; if not, somebody else answers"
# By what ssh says, what is the matter and what would do.
_REFUSALS = (
    (r"host identification has changed", "another host key than the known one", _CHANGED),
    (r"host key verification failed|no .* host key is known", "its host key is not known here", _KNOWN),
    (r"permission denied \(|too many authentication failures", "the key was not accepted", _KEY),
    (r"unprotected private key|bad permissions", "others can read the private key", "chmod 600 it"),
    (r"could not resolve hostname|name or service not known", "no such host", "correct the name or give its address"),
    (r"bad configuration option|unsupported option|garbage at end", "ssh refuses an option", "correct --option"),
)
_UNREACHABLE = "is it on, in the network, and is --port right?"
_LINES = 1000  # kept of an answer
_LENGTH = 20000  # characters kept of a line
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class LostError(UserError):
    """The connection did not come about, or broke; another try may do."""


@dataclass(frozen=True)
class Answer:
    """status: of the command. lines: the last ones of its output, printable."""

    status: int
    lines: tuple[str, ...]

    @property
    def last(self) -> str:
        """The last line that says something."""
        return next((line for line in reversed(self.lines) if line.strip()), "nothing was said")


class Connection:
    """A drone that answers. Each question is a connection of its own, so that one that broke costs nothing more."""

    def __init__(self, address: Address, runner: Runner) -> None:
        self.address = address
        self._runner = runner

    def unbroken(self, if_stopped: str) -> AbstractContextManager[None]:
        """While it lasts Ctrl-C must be pressed twice to break off. if_stopped: what that would leave."""
        return self._runner.unbroken(if_stopped)

    def ask(self, words: tuple[str, ...]) -> Answer:
        """Run a command on the drone.

        Raises:
            LostError: no connection; UserError: none with this key, host or option.
        """
        return self.run(self.address.ssh(words))

    def run(
        self,
        words: tuple[str, ...],
        folder: Path | None = None,
        watch: Callable[[str], str | None] | None = None,
    ) -> Answer:
        """Run a command here that reaches the drone by itself, such as rsync; the same errors."""
        lines: deque[str] = deque(maxlen=_LINES)

        def see(line: str) -> str | None:
            lines.append(printable(line))
            return None if watch is None else watch(lines[-1])

        status, _ = self._runner.attempt(Command(words, folder or Path.cwd()), see)
        answer = Answer(status, tuple(lines))
        if status == LOST:
            raise self.refusal(answer)
        return answer

    def refusal(self, answer: Answer) -> UserError:
        """Why OpenSSH ended without the drone's answer."""
        for pattern, found, remedy in _REFUSALS:
            if any(re.search(pattern, line, re.IGNORECASE) for line in answer.lines):
                words = {"name": self.address.name, "host": self.address.host}
                return refuse(self.address.name, found, remedy.format(**words))
        return LostError(str(refuse(self.address.name, f"no connection ({answer.last})", _UNREACHABLE)))


def printable(line: str) -> str:
    """A line of the drone's without what steers a terminal."""
    return _CONTROL.sub(" ", line)[:_LENGTH]
