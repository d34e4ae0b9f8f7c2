"""Where a drone is, and OpenSSH's commands to reach it. Runs nothing.

No command asks for anything: with BatchMode (ssh_config(5)) a missing key is an error, and no prompt waits for ever.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import refuse

__all__ = ["Address", "read_address"]

# No name may begin with a dash: ssh would take it for an option.
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}|\[?[0-9A-Fa-f:]*:[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?\]?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_OPTION = re.compile(r"[A-Za-z]+=[^\r\n]*")
_OPTIONS = (
    "BatchMode=yes",
    "ConnectTimeout=10",
    # A drone out of reach is noticed in 15 s, also while it says nothing for minutes because it builds an engine.
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "LogLevel=ERROR",  # no banner between the answers
)


@dataclass(frozen=True)
class Address:
    """A drone as OpenSSH finds it.

    Attributes:
        host: name, address, or a Host of ~/.ssh/config.
        user, port: None for what ~/.ssh/config says.
        identity: file of a private key.
        options: further ones of ssh_config(5), KEY=VALUE; they win over ours.
    """

    host: str
    user: str | None = None
    port: int | None = None
    identity: Path | None = None
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.user}@{self.host}" if self.user else self.host

    def ssh(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """The command that runs `words` there, whatever is in them, as long as the login shell is one of POSIX."""
        return (*self._ssh(), self.host, shlex.join(words))

    def sftp(self, batch: Path) -> tuple[str, ...]:
        """The command that carries out the lines of a file."""
        return ("sftp", "-q", "-b", str(batch), *self._options(), self._bracketed())

    def rsync(self, names: tuple[str, ...], folder: str) -> tuple[str, ...]:
        """The command that copies files of the folder it is run in, and goes on inside of what is there already.

        names: relative, with slashes. folder: on the drone; --protect-args keeps it from the shell there.
        """
        how = ("--relative", "--inplace", "--partial", "--checksum", "--protect-args", "--timeout=60", "--progress")
        shell = " ".join(_for_rsync(word) for word in self._ssh())
        files = tuple(f"./{name}" for name in names)
        return ("rsync", *how, f"--rsh={shell}", "--", *files, f"{self._bracketed()}:{folder}/")

    def _ssh(self) -> tuple[str, ...]:
        return ("ssh", "-T", *self._options())

    def _options(self) -> tuple[str, ...]:
        found = [*self.options, *_OPTIONS]  # of two values OpenSSH takes the first
        found += [f"User={self.user}"] if self.user else []
        found += [f"Port={self.port}"] if self.port else []
        words = [word for option in found for word in ("-o", option)]
        if self.identity is not None:  # -i expands %; with it alone, since each key offered counts as a try
            words += ["-o", "IdentitiesOnly=yes", "-i", str(self.identity).replace("%", "%%")]
        return tuple(words)

    def _bracketed(self) -> str:
        return f"[{self.host.strip('[]')}]" if ":" in self.host else self.host


def read_address(
    text: str, user: str | None, port: int | None, identity: Path | None, options: tuple[str, ...] = ()
) -> Address:
    """Read [USER@]HOST.

    Raises:
        UserError: host, user, port, option or key file is none.
    """
    before, at, host = text.rpartition("@")
    name = before if at else user
    if not _HOST.fullmatch(host):
        raise refuse(f"host {text!r}", "is no name or address", "give for example drone.local or pilot@192.168.1.20")
    if name is not None and not _USER.fullmatch(name):
        raise refuse(f"user {name!r}", "is no user name", "allowed: letters, digits, . _ -")
    if port is not None and not 1 <= port <= 65535:
        raise refuse(f"--port {port}", "is no port", "allowed: 1 to 65535")
    if identity is not None and not identity.is_file():
        raise refuse(f"--identity {identity}", "no such file", "give the file of a private key")
    for option in options:
        if not _OPTION.fullmatch(option):
            raise refuse(f"--option {option!r}", "is no KEY=VALUE", "give for example ProxyJump=ground-station")
    return Address(host.strip("[]"), name, port, None if identity is None else identity.resolve(), options)


def _for_rsync(word: str) -> str:
    """A word as rsync takes --rsh apart: at blanks; quotes keep them, and are doubled (rsync(1), -e)."""
    if re.fullmatch(r"[A-Za-z0-9_.,:/@%=+-]+", word):
        return word
    return "'" + word.replace("'", "''") + "'"
