"""The review in a real browser: the boxes are there, a saved view opens, a tag set in the App becomes a verdict."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from drawn_review import NAME, WALL
from drawn_source import draw_source, ids, row
from reviewing import Served, app_page, free_port, open_view, show

from pipeline.curate.review import review_address

pytestmark = pytest.mark.long


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    page = app_page(browser)
    yield page
    page.close()


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
    served = Served([sys.executable, Path(__file__).with_name("drawn_review.py"), cache, port], home)
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
