"""A TCP proxy that cuts one connection in the middle, as a radio link does, and counts what went to the server."""

import contextlib
import socket
import threading


class CuttingProxy:
    """Forwards to a local port. cut_at: bytes of one connection, towards the server, after which it is cut; once.

    sent: bytes that went to the server, by connection.
    """

    def __init__(self, port: int, cut_at: int | None) -> None:
        self._to, self._cut_at = port, cut_at
        self.sent: list[int] = []
        self.cut: int | None = None  # number of the connection that was cut
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._to))
            self.sent.append(0)
            number = len(self.sent) - 1
            threading.Thread(target=self._forward, args=(client, server, number), daemon=True).start()
            threading.Thread(target=self._forward, args=(server, client, None), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, number: int | None) -> None:
        """Until either end closes; number: of the connection, where this is the way to the server."""
        try:
            while data := source.recv(1 << 14):
                target.sendall(data)
                if number is None:
                    continue
                self.sent[number] += len(data)
                if self.cut is None and self._cut_at is not None and self.sent[number] >= self._cut_at:
                    self.cut = number
                    break
        except OSError:
            pass
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
