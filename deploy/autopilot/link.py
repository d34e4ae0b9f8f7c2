"""Bytes to and from the autopilot, over UDP or a serial line, that comes and goes. Knows nothing of MAVLink.

Nothing here waits: what cannot be sent at once is dropped, what cannot be opened is tried again later.
"""

import errno
import os
import re
import select
import socket
import stat
import termios
import tty
from typing import Callable, NamedTuple, Optional, Tuple

from deploy.errors import refuse

_ALLOWED = "write /dev/ttyTHS1,921600, udpout:HOST:PORT or udpin:HOST:PORT"
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 5.0  # seconds between attempts to open
_CHUNK = 4096  # bytes; a UDP datagram with MAVLink is shorter
# What passes by itself; another socket would fare no better. Refused: nobody listens yet. Permission: a firewall.
_PASSES = (
    errno.EAGAIN,
    errno.EINTR,
    errno.ECONNREFUSED,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.ENOBUFS,
    errno.EPERM,
)


class Address(NamedTuple):
    """kind: serial, udpout or udpin. place: device or host. number: baud or port."""

    kind: str
    place: str
    number: int


def parse_address(text: str) -> Address:
    """Read a connection as the settings have it. Raises UserError."""
    serial = re.fullmatch(r"(/[^,]+),(\d{1,8})", text)
    network = re.fullmatch(r"(udpout|udpin):([^:]+):(\d{1,5})", text)
    if serial:
        if not hasattr(termios, "B" + serial.group(2)) or int(serial.group(2)) == 0:
            raise refuse(
                "connection={}".format(text), "no such rate", "give 57600, 115200, 921600 or another usual one"
            )
        return Address("serial", serial.group(1), int(serial.group(2)))
    if network and 0 < int(network.group(3)) < 65536:
        return Address(network.group(1), network.group(2), int(network.group(3)))
    raise refuse("connection={}".format(text), "is no line to an autopilot", _ALLOWED)


class Link:
    """One line, opened when it can be. For one thread.

    on_change: called with whether it is open and why.
    """

    def __init__(self, address: Address, clock: Callable[[], float], on_change: Callable[[bool, str], None]) -> None:
        self._address, self._clock, self._on_change = address, clock, on_change
        self._socket: Optional[socket.socket] = None
        self._file: Optional[int] = None
        self._peer: Optional[Tuple[str, int]] = None
        self._wait, self._next_attempt = _FIRST_WAIT, -1e9
        self.unsent = 0

    @property
    def is_open(self) -> bool:
        """Whether bytes can go out."""
        return self._file is not None or self._socket is not None

    def fileno(self) -> Optional[int]:
        """What select waits for, None while it is not open."""
        return self._socket.fileno() if self._socket is not None else self._file

    def open(self) -> bool:
        """Open it if it is time for another attempt; returns whether it is open."""
        if self.is_open or self._clock() < self._next_attempt:
            return self.is_open
        try:
            if self._address.kind == "serial":
                self._file = _open_serial(self._address.place, self._address.number)
            else:
                self._open_socket()
        except OSError as error:
            self._next_attempt = self._clock() + self._wait
            if self._wait == _FIRST_WAIT:
                self._on_change(False, "{}: {}".format(self._address.place, error.strerror or error))
            self._wait = min(2 * self._wait, _LONGEST_WAIT)
            return False
        self._wait = _FIRST_WAIT
        self._on_change(True, "{}: open".format(self._address.place))
        return True

    def read(self) -> bytes:
        """What has arrived, nothing where nothing has. Bytes that a line lost while closing are lost."""
        data = b""
        try:
            if self._file is not None:
                data = os.read(self._file, _CHUNK)
                if not data:
                    self._lose("the line ended")
            elif self._socket is not None:
                data, sender = self._socket.recvfrom(_CHUNK)
                if self._address.kind == "udpin":
                    self._peer = sender
        except OSError as error:
            if error.errno not in _PASSES:
                self._lose(error.strerror or str(error))
        return data

    def write(self, data: bytes) -> bool:
        """Send bytes now, or not at all; returns whether they went."""
        sent = 0
        try:
            if self._file is not None:
                sent = os.write(self._file, data)
            elif self._socket is not None and self._peer is not None:
                sent = self._socket.sendto(data, self._peer)
        except OSError as error:
            if error.errno not in _PASSES:
                self._lose(error.strerror or str(error))
        self.unsent += sent != len(data)
        return sent == len(data)

    def close(self) -> None:
        """Give the line back."""
        if self._file is not None:
            os.close(self._file)
        if self._socket is not None:
            self._socket.close()
        self._file = self._socket = self._peer = None

    def _open_socket(self) -> None:
        kind, host, port = self._address
        try:
            address = (socket.gethostbyname(host), port)
        except UnicodeError:  # a label of more than 63 letters
            raise OSError(errno.EINVAL, "is no name of a host") from None
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            if kind == "udpin":
                made.bind(address)
        except OSError:
            made.close()
            raise
        self._socket, self._peer = made, address if kind == "udpout" else None

    def _lose(self, why: str) -> None:
        self.close()
        self._next_attempt = self._clock() + self._wait
        self._on_change(False, "{}: {}".format(self._address.place, why))


def wait_for(link: Link, wake: int, seconds: float) -> Tuple[bool, bool]:
    """Wait until something has arrived, the file `wake` can be read, or `seconds` are up; says which of the two."""
    number = link.fileno()
    watched = [wake] if number is None else [wake, number]
    try:
        ready = select.select(watched, [], [], max(seconds, 0))[0]
    except OSError:  # the line went while it was waited for
        return False, False
    return number in ready, wake in ready


def _open_serial(path: str, baud: int) -> int:
    """A raw line, 8 bits, no parity, no flow control; writing and reading return at once."""
    file = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISCHR(os.fstat(file).st_mode):
            raise OSError(errno.ENOTTY, "is no serial line")
        tty.setraw(file)
        modes = termios.tcgetattr(file)
        modes[2] = (modes[2] | termios.CLOCAL | termios.CREAD) & ~(termios.CRTSCTS | termios.CSTOPB | termios.PARENB)
        modes[4] = modes[5] = getattr(termios, "B{}".format(baud))
        termios.tcsetattr(file, termios.TCSANOW, modes)
        termios.tcflush(file, termios.TCIOFLUSH)
    except (OSError, termios.error) as error:
        os.close(file)
        raise error if isinstance(error, OSError) else OSError(errno.ENOTTY, "is no serial line") from None
    return file
