"""A video as an MJPEG stream over HTTP on this machine, each frame with the moment at which it was sent drawn into it.

Run as a script this file is the server: `stamped_stream.py VIDEO RATE`; it prints its port.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np

_BLOCK, _BITS = 16, 64  # pixels of a side; JPEG leaves black and white blocks of that size apart


def stamp(image: np.ndarray, seconds: float) -> None:
    """Draw a moment in seconds, to a microsecond, as black and white blocks into the top rows of (H, W, 3) uint8."""
    bits = (int(seconds * 1e6) >> np.arange(_BITS, dtype=np.uint64)) & 1
    row = np.repeat(bits.astype(np.uint8) * 255, _BLOCK)
    image[:_BLOCK, : len(row)] = row[None, :, None]


def stamp_of(image: np.ndarray) -> float:
    """The moment that was drawn into (H, W, 3) uint8, seconds."""
    row = image[_BLOCK // 2, _BLOCK // 2 : _BLOCK * _BITS : _BLOCK, 1] > 127
    return float((row.astype(np.uint64) << np.arange(_BITS, dtype=np.uint64)).sum()) / 1e6


@contextmanager
def serve_stream(video: Path, rate: float, not_on: int) -> Iterator[str]:
    """The address of a stream of `video`, again and again, `rate` frames a second, from a process on another core."""
    process = subprocess.Popen([sys.executable, __file__, str(video), str(rate)], stdout=subprocess.PIPE, text=True)
    others = set(range(os.cpu_count() or 1)) - {not_on}
    os.sched_setaffinity(process.pid, others or {not_on})
    assert process.stdout
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/stream.mjpg"
    finally:
        process.kill()
        process.wait()


def _serve(video: str, rate: float) -> None:
    frames = []
    capture = cv2.VideoCapture(video)
    while True:
        is_read, image = capture.read()
        if not is_read:
            break
        frames.append(image)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            due, number = time.monotonic(), 0
            while True:
                image = frames[number % len(frames)]
                stamp(image, time.monotonic())
                data = cv2.imencode(".jpg", image)[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                try:
                    self.wfile.write(head.encode() + data + b"\r\n")
                except OSError:
                    return
                number, due = number + 1, due + 1 / rate
                time.sleep(max(0.0, due - time.monotonic()))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _serve(sys.argv[1], float(sys.argv[2]))
