"""A real browser for the pages that people look at, and what such a page asks for and complains of."""

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE = 60_000  # ms


class Tab:
    """A page, everything it asked for, and everything it complained of."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda line: self.complaints.append(line.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def until(self, expression: str) -> None:
        """Wait until it holds; wait_for_function would need eval, which the page forbids."""
        end = time.monotonic() + PATIENCE / 1000
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, expression
            self.page.wait_for_timeout(50)

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).inner_text())

    def pixels(self) -> np.ndarray:
        """The picture as the browser shows it: (H, W, 3) int64 BGR."""
        image = cv2.imdecode(np.frombuffer(self.page.locator("#picture").screenshot(), np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        return image.astype(np.int64)
