"""What the page costs the flight loop: the time of one publish with nobody, somebody and a stalled client watching.

    python tests/benchmarks/bench_web.py

And what a frame's resize costs meanwhile, since the server's thread takes its share of the processor. Printed as ratios
to nobody watching, all in one run, in turns. Writes results/web.json.
"""

import argparse
import socket
import statistics
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2
import numpy as np
from measure import write_result

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from watched import observe, served

from deploy.events import Events
from deploy.frame import Observation
from deploy.part import Part
from deploy.web import WebSettings
from deploy.web.server import Web

RESULT = Path(__file__).parent / "results" / "web.json"
_CASES = ("nobody", "fast", "stalled", "both")
_BATCH = 1000  # publishes timed together


@contextmanager
def fast_client(web: Web) -> Iterator[None]:
    """Takes pictures as fast as they are given."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            with urllib.request.urlopen(web.address + "/api/frame", timeout=20) as answer:
                answer.read()
            time.sleep(0.03)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join()


@contextmanager
def stalled_client(web: Web) -> Iterator[None]:
    """Asks for many pictures and reads none."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", int(web.address.rpartition(":")[2])))
        client.sendall(b"GET /api/frame HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
        yield


def prepare(image: np.ndarray) -> float:
    """What a frame costs the loop before the network: resized, scaled, transposed."""
    small = cv2.resize(image, (416, 416))
    tensor = np.ascontiguousarray(small.transpose(2, 0, 1)[None]).astype(np.float32) / 255
    return float(tensor[0, 0, 0, 0])


def microseconds(part: Part, observation: Observation, seconds: float) -> tuple[list[float], list[float]]:
    """Of one publish, averaged over batches, and of one frame's preparation, at about 30 frames a second."""
    publishing: list[float] = []
    preparing: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        marks = [time.perf_counter()]
        prepare(observation.frame.image)
        marks.append(time.perf_counter())
        for _ in range(_BATCH):
            part.publish(observation)
        marks.append(time.perf_counter())
        preparing.append((marks[1] - marks[0]) * 1e6)
        publishing.append((marks[2] - marks[1]) / _BATCH * 1e6)
        time.sleep(0.03)
    return publishing, preparing


def measure(case: str, seconds: float) -> tuple[list[float], list[float], int]:
    """Times in microseconds, and pictures encoded meanwhile."""
    observation = observe(0, size=(1280, 720))
    with ExitStack() as stack:
        web = stack.enter_context(served(WebSettings(port=0), events=Events(stream=None)))
        web.publish(observation)
        if case in ("fast", "both"):
            stack.enter_context(fast_client(web))
        if case in ("stalled", "both"):
            stack.enter_context(stalled_client(web))
        return (*microseconds(web, observation, seconds), web.status()["encoded"])


def main() -> None:
    """Measure every case in turns, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each case in each round [%(default)s]")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    publishing: dict[str, list[float]] = {case: [] for case in _CASES}
    preparing: dict[str, list[float]] = {case: [] for case in _CASES}
    encoded = dict.fromkeys(_CASES, 0)
    for _ in range(arguments.rounds):
        for case in _CASES:
            one, other, pictures = measure(case, arguments.seconds)
            publishing[case] += one
            preparing[case] += other
            encoded[case] += pictures
    rows = {}
    for case in _CASES:
        told, ready = statistics.median(publishing[case]), statistics.median(preparing[case])
        rows[case] = {
            "publish_us": round(told, 3),
            "publish_ratio": round(told / statistics.median(publishing["nobody"]), 2),
            "prepare_us": round(ready, 1),
            "prepare_ratio": round(ready / statistics.median(preparing["nobody"]), 2),
            "encoded": encoded[case],
        }
        print(
            "{:8} publish {publish_us:6.2f} µs, {publish_ratio:5.2f} times; frame {prepare_us:7.0f} µs, "
            "{prepare_ratio:5.2f} times; {encoded} pictures".format(case, **rows[case])
        )
    write_result(RESULT, sys.argv, rows)


if __name__ == "__main__":
    main()
