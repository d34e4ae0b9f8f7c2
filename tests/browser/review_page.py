"""A picture of the review of real photos in FiftyOne's App, as `skylight curate --review` opens it.

PYTHONPATH=.:tests python tests/browser/review_page.py RECIPE PHOTOS docs/pictures/review.png
"""

import argparse
import io
import subprocess
import sys
import tempfile
from pathlib import Path

from browsing import CHROMIUM
from PIL import Image
from playwright.sync_api import sync_playwright
from reviewing import Served, app_page, free_port, open_view


def main() -> None:
    """Curate, open the review, choose the photos whose numbers lie close to a limit, and take the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("source", type=Path, help="folder of its photos")
    parser.add_argument("picture", type=Path, help="file to write, .png")
    parser.add_argument("--view", default="borderline", help="saved view [%(default)s]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root, home, port = Path(name) / "root", Path(name) / "home", free_port()
        home.mkdir()
        skylight = Path(sys.executable).with_name("skylight")
        command = [skylight, "curate", arguments.recipe, "--source", arguments.source, "--root", root]
        subprocess.run([str(word) for word in command], check=True)
        served = Served([*command, "--review", "--port", port], home)
        try:
            served.wait_until_open()
            address = next(line.split()[-1] for line in served.lines if line.startswith("Review at "))
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
                page = app_page(browser, viewport={"width": 1280, "height": 800})
                page.goto(address, wait_until="domcontentloaded")
                open_view(page, arguments.view)
                page.wait_for_timeout(8000)  # photos come in one by one
                _write(arguments.picture, page.screenshot())
                browser.close()
        finally:
            served.interrupt()


def _write(path: Path, shot: bytes) -> None:
    """With 256 colours a page of photos takes a third, and nobody sees it."""
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    main()
