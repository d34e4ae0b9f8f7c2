"""A picture of the drone's page in a real flight of this machine: a bundle over photos, nothing made up.

    python tests/browser/flown_page.py BUNDLE PHOTOS docs/pictures/drone.png

The camera is a video that moves slowly over each photo for two seconds; `skylight-detect fly` flies it.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
from drone_page import take_picture

SETTINGS = """
[source]
device = {video}
pace = real
[geometry]
field_of_view = 70
[tracks]
min_hits = 2
[log]
folder = {folder}/log
reserve = 0
[health]
disk = {folder}
low_disk = 0
[web]
port = {port}
width = 960
quality = 75
rate = 10
"""
RATE = 15


def main() -> None:
    """Fly, and take the picture after some seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("photos", type=Path, help="folder of pictures")
    parser.add_argument("picture", type=Path, help="file to write, .png")
    parser.add_argument("--port", type=int, default=8098)
    parser.add_argument("--after", type=float, default=12.0, help="seconds of flight before the picture")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = _video(folder / "flight.avi", sorted(arguments.photos.glob("*.jpg")), arguments.after + 30)
        text = SETTINGS.format(video=video, folder=folder, port=arguments.port)
        (folder / "detect.ini").write_text(text, encoding="utf-8")
        command = [Path(sys.executable).with_name("skylight-detect"), "fly", "--settings", folder / "detect.ini"]
        flight = subprocess.Popen([str(word) for word in [*command, "--bundle", arguments.bundle]])
        try:
            time.sleep(arguments.after)
            take_picture(f"http://127.0.0.1:{arguments.port}", arguments.picture, 1280, is_dark=False)
        finally:
            flight.terminate()
            flight.wait()


def _video(path: Path, photos: list[Path], seconds: float) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), RATE, (960, 720))
    for number in range(int(seconds * RATE)):
        shift = number % (2 * RATE)
        image = cv2.imread(str(photos[number // (2 * RATE) % len(photos)]))
        assert image is not None
        scale = max(1040 / image.shape[1], 780 / image.shape[0])
        large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        writer.write(large[shift : shift + 720, 2 * shift : 2 * shift + 960])
    writer.release()
    return path


if __name__ == "__main__":
    main()
