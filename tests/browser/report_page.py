"""Takes a picture of a report for the documentation: its first screens, as a browser shows them.

PYTHONPATH=. python tests/browser/report_page.py report/facades/index.html docs/pictures/report.png
"""

import argparse
import io
from pathlib import Path

from PIL import Image

from deploy.files import new_file

CHROMIUM = "/usr/bin/chromium"


def take_picture(report: Path, path: Path, width: int, height: int, is_dark: bool) -> None:
    """The top of the page, `width` x `height` pixels of the page, as PNG."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": width, "height": height}, color_scheme="dark" if is_dark else "light"
        )
        page.goto(report.resolve().as_uri())
        page.wait_for_function("!document.querySelector('.plot > div:not([data-drawn])')", timeout=60_000)
        shot = Image.open(io.BytesIO(page.screenshot()))
        browser.close()
    with new_file(path) as part:
        shot.convert("RGB").quantize(256).save(part, optimize=True)


def main() -> None:
    """Take one picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="index.html of a report")
    parser.add_argument("picture", type=Path, help="file to write, .png")
    parser.add_argument("--width", type=int, default=1150, help="of the window, pixels")
    parser.add_argument("--height", type=int, default=1590, help="of the window, pixels")
    parser.add_argument("--dark", action="store_true")
    arguments = parser.parse_args()
    take_picture(arguments.report, arguments.picture, arguments.width, arguments.height, arguments.dark)


if __name__ == "__main__":
    main()
