"""The review in a real browser: the boxes are there, a saved view opens, a tag set in the App becomes a verdict.

Run as a script this file serves the review that the tests look at: `test_review.py CACHE PORT`.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.curate.review import Candidate, load_review, open_review, review_address

pytestmark = pytest.mark.long

NAME = "drawn"
CHROMIUM = Path("/usr/bin/chromium")
PATIENCE = 180_000  # ms; two busy cores need a while for a page of several megabytes
WALL = Candidate(
    image_id="",
    path=Path(),
    boxes=np.array([[0.25, 0.25, 0.5, 0.625], [0.6, 0.2, 0.8, 0.5]]),
    labels=("Window", "Window"),
    box_scores={"edge_support": np.array([0.5, np.nan])},
    box_rules=("kept", "kept"),
    rule="kept",
    split="train",
    scores={"blur": 0.1},
    borderline=False,
    verdict=None,
    predictions=np.array([[0.26, 0.26, 0.5, 0.6]]),
    prediction_scores=np.array([0.7]),
    prediction_labels=("Window",),
)


def drawn_candidates(folder: Path) -> list[Candidate]:
    """Four photos that are kept, the first of them borderline, and two that a flag dropped."""
    candidates = []
    for index in range(6):
        image = np.full((240, 320, 3), 60 + 20 * index, np.uint8)
        cv2.rectangle(image, (80, 60), (160, 150), (200, 200, 200), -1)
        path = folder / f"photo{index}.png"
        cv2.imwrite(str(path), image)
        is_kept = index < 4
        rule, split = ("kept", "train") if is_kept else ("IsGroupOf", None)
        candidates.append(replace(WALL, image_id=path.stem, path=path, rule=rule, split=split, borderline=index == 0))
    return candidates


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def chromium() -> Path:
    if not CHROMIUM.exists():
        reason = f"no {CHROMIUM}: install the system's package chromium to test in a browser"
        if os.environ.get("SKYLIGHT_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return CHROMIUM


@pytest.fixture
def page(chromium: Path) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE)
        # An advertisement that lies over the photos some seconds after the start.
        page.add_locator_handler(page.get_by_role("button", name="Dismiss"), lambda button: button.click())
        page.route(lambda url: "127.0.0.1" not in url, lambda route: route.abort())
        yield page
        browser.close()


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


def wait_for_count(page: Any, count: int) -> None:
    page.locator("[data-cy=entry-counts]").filter(has_text=f"{count} sample").wait_for()
    page.locator("[data-cy=looker] canvas[canvas-loaded=true]").first.wait_for()


def open_view(page: Any, slug: str, count: int) -> None:
    """Choose a saved view in the App's list."""
    page.click("[data-cy=saved-views-selection]")
    page.click(f"[data-cy=saved-views-{slug}-selection-option]")
    wait_for_count(page, count)


def tag_first_photo(page: Any, tag: str) -> None:
    """Select the first photo shown and tag it, as a person does."""
    photo = page.locator("[data-cy=looker]").first
    photo.hover()
    photo.locator("label").first.click()
    page.click("[data-cy=action-tag-sample-labels]")
    page.fill("[data-cy=sample-tag-input]", tag)
    page.press("[data-cy=sample-tag-input]", "Enter")
    with page.expect_response(lambda answer: answer.url.endswith("/tag") and answer.ok):
        page.get_by_text("Apply", exact=True).click()


def boxes_in_modal(page: Any) -> str:
    """What the sidebar says beside ground_truth when the first photo is opened large."""
    page.locator("[data-cy=looker]").first.click()
    entry = page.locator("[data-cy=modal] [data-cy=sidebar-field-container-ground_truth]")
    text = str(entry.filter(has_text=re.compile(r"\d")).inner_text())  # the number comes a moment after the name
    page.keyboard.press("Escape")
    page.wait_for_selector("[data-cy=modal]", state="detached")
    return text


def pixels(page: Any) -> np.ndarray:
    """The first photo as the browser draws it: (H, W, 3) int64."""
    page.mouse.move(640, 880)  # what hovers has a shade
    shot = page.locator("[data-cy=looker]").first.screenshot()
    image = cv2.imdecode(np.frombuffer(shot, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image.astype(np.int64)


def outlined(page: Any) -> np.ndarray:
    """Per box of WALL, the share of its outline that hiding the labels changes: (2,) float64."""
    shown = pixels(page)
    page.click("[data-cy=checkbox-ground_truth]")
    page.click("[data-cy=checkbox-predictions]")
    assert wait_for(lambda: bool((pixels(page) != shown).any()), 10), "hiding the labels changes nothing"
    time.sleep(0.5)
    changed = np.abs(pixels(page) - shown).max(axis=2) > 15
    changed = cv2.dilate(changed.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    height, width = changed.shape
    shares = []
    for left, top, right, bottom in (WALL.boxes * [width, height, width, height]).round().astype(int):
        edges = [changed[top, left:right], changed[bottom, left:right], changed[top:bottom, left]]
        shares.append(np.concatenate([*edges, changed[top:bottom, right]]).mean())
    return np.array(shares)


def wait_for(is_so: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not is_so() and time.monotonic() < end:
        time.sleep(0.1)
    return is_so()


def processes_of(cache: Path) -> list[str]:
    import psutil

    lines = (" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    return [line for line in lines if str(cache) in line]


def test_a_tag_set_in_the_app_becomes_a_verdict(tmp_path: Path, page: Any) -> None:
    cache, home, port = tmp_path / "cache", tmp_path / "home", free_port()
    for folder in (cache, home):
        folder.mkdir()
    served = Served([sys.executable, __file__, cache, port], home)
    try:
        served.wait_until_open()
        address = review_address(NAME, port)
        assert served.lines[0] == f"Review at {address}"
        assert any("ssh -N -L" in line for line in served.lines)  # there is no display
        show(page, address, 6)
        open_view(page, "borderline", 1)
        open_view(page, "dropped-isgroupof", 2)
        assert boxes_in_modal(page).split() == ["ground_truth", "2"]
        tag_first_photo(page, "drop")
        page.reload(wait_until="domcontentloaded")
        open_view(page, "tagged-drop", 1)
        assert outlined(page).min() > 0.9
        assert served.interrupt() == ["{'photo4': 'drop'}"]
    finally:
        served.process.kill()
    assert wait_for(lambda: not processes_of(cache), 20), processes_of(cache)
    assert not list(home.iterdir())


def test_a_tag_set_in_the_app_changes_the_set(tmp_path: Path, page: Any) -> None:
    """`skylight curate --review`: what is tagged drop is in the set before, and not after."""
    from drawn_source import draw_source, ids, row  # not at the top: as a script this file stands alone

    recipe, root, home, port = tmp_path / "walls.yaml", tmp_path / "root", tmp_path / "home", free_port()
    home.mkdir()
    draw_source(tmp_path / "source", [row(name, box=(0.25, 0.25, 0.5, 0.625)) for name in ids(12)])
    recipe.write_text("name: walls\nlicence: CC0-1.0\nsource: {format: open-images}\nclasses: [Window]\n")
    command = [Path(sys.executable).with_name("skylight"), "curate", recipe, "--source", tmp_path / "source"]
    command += ["--root", root]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)

    def in_the_set() -> set[str]:
        return {path.stem for path in (root / "data" / "walls" / "images").rglob("*.jpg")}

    assert in_the_set() == set(ids(12))
    served = Served([*command, "--review", "--port", port], home)
    try:
        served.wait_until_open()
        show(page, review_address("walls", port), 12)
        open_view(page, "kept", 12)
        tag_first_photo(page, "drop")
        served.interrupt()
    finally:
        served.process.kill()
    header, line = recipe.with_name("walls.review.csv").read_text().splitlines()
    dropped, verdict, _ = line.split(",")
    assert (header, verdict) == ("image_id,verdict,note", "drop")
    assert in_the_set() == set(ids(12)) - {dropped}


if __name__ == "__main__":
    load_review(NAME, drawn_candidates(Path(sys.argv[1])), Path(sys.argv[1]))
    print(open_review(NAME, Path(sys.argv[1]), int(sys.argv[2]), say=lambda line: print(line, flush=True)))
