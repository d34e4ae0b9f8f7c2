"""Raw sockets to the drone's page: what no library would send, and who does not read what is answered."""

import socket
from pathlib import Path

from deploy.web.server import Web

TOKEN = "correct-horse-battery"


def write_token(folder: Path) -> Path:
    """A file with the token that only its owner reads."""
    path = folder / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return path


def port(web: Web) -> int:
    return int(web.address.rpartition(":")[2])


def connect(web: Web, receive: int | None = None) -> socket.socket:
    """receive: bytes of the buffer for what comes in."""
    client = socket.socket()
    if receive is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    client.settimeout(20)
    client.connect(("127.0.0.1", port(web)))
    return client


def read_all(client: socket.socket) -> bytes:
    parts = []
    try:
        while True:
            part = client.recv(65536)
            if not part:
                break
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def send(web: Web, data: bytes) -> bytes:
    """Everything that comes back until the server closes."""
    with connect(web) as client:
        client.sendall(data)
        return read_all(client)


def ask(web: Web, path: str, *lines: str, method: str = "GET", host: str = "localhost") -> bytes:
    text = "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *lines, "", ""])
    return send(web, text.encode("latin-1"))


def status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer[:80]
    return int(answer[9:12])


def is_served(web: Web) -> bool:
    return status(ask(web, "/healthz")) == 200
