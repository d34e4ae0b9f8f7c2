"""Shows the drone's page with a drawn fly-by, without a drone, or takes its picture for the documentation.

    PYTHONPATH=. python tests/browser/drone_page.py --port 8080
    PYTHONPATH=. python tests/browser/drone_page.py --picture docs/pictures/drone.png

What the network would find is the drawing's own truth, shaken a little; temperatures and times are made up.
"""

import argparse
import io
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from watched import told

from deploy.events import Events
from deploy.files import new_file
from deploy.frame import Detections, Frame, Observation, Track
from deploy.web import WebSettings
from deploy.web.server import Web
from pipeline.synthetic.flyby import draw_flyby

CHROMIUM = "/usr/bin/chromium"
_RATE = 25.0
_STAGES = {"read": 2.1, "resize": 1.9, "network": 20.4, "decode": 0.8}


class FlyBy:
    """A drawn flight, over and over."""

    def __init__(self, frames: int = 60) -> None:
        with tempfile.TemporaryDirectory() as folder:
            video = Path(folder) / "flyby.mp4"
            draw_flyby(video, frames)
            lines = video.with_suffix(".truth.jsonl").read_text().splitlines()
            self.truth: list[list[dict[str, Any]]] = [json.loads(line)["objects"] for line in lines]
            capture = cv2.VideoCapture(str(video))
            self.images = [capture.read()[1] for _ in range(frames)]
        self.classes = sorted({one["class"] for objects in self.truth for one in objects})
        self._rng = np.random.default_rng(0)

    def observe(self, number: int) -> Observation:
        """Frame `number`: its larger objects are found, three of them are tracked, the last one is bridged."""
        objects = [one for one in self.truth[number % len(self.truth)] if "indow" in one["class"]]
        objects = sorted(objects, key=lambda one: -(one["box"][2] - one["box"][0]))[:6]
        boxes = np.array([one["box"] for one in objects], np.float32).reshape(-1, 4)
        boxes += self._rng.normal(0, 0.7, boxes.shape).astype(np.float32)
        scores = np.linspace(0.94, 0.6, len(boxes), dtype=np.float32)
        classes = np.array([self.classes.index(one["class"]) for one in objects], np.int64)
        tracks = tuple(
            Track(
                place + 1,
                (box[0], box[1], box[2], box[3]),
                (0.0, 0.0),
                float(score),
                int(index),
                20,
                0.3 if place == 4 else 0.0,
            )
            for place, (box, score, index) in enumerate(zip(boxes.tolist(), scores, classes, strict=True))
        )
        frame = Frame(number, time.monotonic() - 0.03, None, self.images[number % len(self.images)], "drawn")
        found = Detections(boxes, scores, classes)
        return Observation(frame, found, tracks, 0.036, 0.3, number // 22, (416, 416), _STAGES)

    @staticmethod
    def _track(place: int, box: list[float], score: float, index: int) -> Track:
        left, top, right, bottom = box
        return Track(place + 1, (left, top, right, bottom), (0.0, 0.0), score, index, 20, 0.3 if place == 4 else 0.0)


def fly(web: Web, flight: FlyBy, stop: threading.Event, events: Events) -> None:
    """Publish until told to stop."""
    number = 0
    events.add("info", "source.open", "camera 0, 1280 x 720 at 30 frames a second")
    events.add("warning", "heat.level", "slower: GPU-therm 84 °C")
    events.add("error", "mavlink.lost", "no heartbeat of the autopilot for 3 s")
    events.add("info", "mavlink.back", "heartbeat of autopilot 1, link was lost for 4.2 s")
    while not stop.wait(1 / _RATE):
        web.publish(flight.observe(number))
        number += 1


def take_picture(address: str, path: Path, width: int = 1280, height: int = 1180, is_dark: bool = False) -> None:
    """The page as a browser shows it after some seconds, as PNG."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": width, "height": height}, color_scheme="dark" if is_dark else "light"
        )
        page.goto(address)
        page.wait_for_selector("#picture[data-number]", timeout=60_000)
        page.wait_for_timeout(3000)
        shot = Image.open(io.BytesIO(page.screenshot(full_page=True)))
        browser.close()
    with new_file(path) as part:
        shot.convert("RGB").quantize(256).save(part, optimize=True)


def main() -> None:
    """Serve, and take the picture if one is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--picture", type=Path, help="file to write, .png; then the program ends")
    parser.add_argument("--width", type=int, default=1280, help="of the window, pixels")
    parser.add_argument("--dark", action="store_true")
    arguments = parser.parse_args()
    flight, events, stop = FlyBy(), Events(stream=None), threading.Event()
    web = Web(WebSettings(port=arguments.port, rate=10, width=960, quality=75), flight.classes, told, events)
    flying = threading.Thread(target=fly, args=(web, flight, stop, events), daemon=True)
    flying.start()
    try:
        if arguments.picture is not None:
            take_picture(web.address, arguments.picture, arguments.width, is_dark=arguments.dark)
        else:
            print(f"{web.address}; Ctrl-C ends it", flush=True)
            flying.join()
    except KeyboardInterrupt:
        pass
    finally:
        stop.set()
        flying.join()
        web.close()


if __name__ == "__main__":
    main()
