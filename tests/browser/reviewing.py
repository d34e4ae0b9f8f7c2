"""FiftyOne's App with a review in it, in a real browser, as a person would open it."""

import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

PATIENCE = 180_000  # ms; two busy cores need a while for a page of several megabytes


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def app_page(browser: Any, **options: Any) -> Any:
    """A page for the App; it asks nobody but this machine."""
    page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **options})
    page.set_default_timeout(PATIENCE)
    # An advertisement that lies over the photos some seconds after the start.
    page.add_locator_handler(page.get_by_role("button", name="Dismiss"), lambda button: button.click())
    page.route(lambda url: "127.0.0.1" not in url, lambda route: route.abort())
    return page


class Served:
    """A process that serves a review, as a user's would; `command` prints when it can be opened."""

    def __init__(self, command: list[object], home: Path) -> None:
        environment = {**os.environ, "HOME": str(home), "DISPLAY": "", "WAYLAND_DISPLAY": ""}
        environment.pop("MPLCONFIGDIR", None)
        self.process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        self.lines: list[str] = []

    def wait_until_open(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.strip())
            if "Ctrl-C" in line:
                return
        raise AssertionError("\n".join(self.lines))

    def interrupt(self) -> list[str]:
        """Press Ctrl-C; returns the lines printed from then on."""
        self.process.send_signal(signal.SIGINT)
        rest, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, rest
        return rest.splitlines()


def show(page: Any, address: str, count: int) -> None:
    """Go to the App and wait until it shows `count` photos."""
    page.goto(address, wait_until="domcontentloaded")
    wait_for_count(page, count)


def wait_for_count(page: Any, count: int | None) -> None:
    """Wait until the App says that it shows so many photos, or any, and has drawn the first."""
    page.locator("[data-cy=entry-counts]").filter(has_text="sample" if count is None else f"{count} sample").wait_for()
    page.locator("[data-cy=looker] canvas[canvas-loaded=true]").first.wait_for()


def open_view(page: Any, slug: str, count: int | None = None) -> None:
    """Choose a saved view in the App's list, and wait until it shows so many photos, or any."""
    page.click("[data-cy=saved-views-selection]")
    page.click(f"[data-cy=saved-views-{slug}-selection-option]")
    wait_for_count(page, count)
