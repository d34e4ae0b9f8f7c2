"""The report in a real browser: it draws without a network, fits a phone, follows dark mode, and prints."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="module")
def report(trained: Path, bundle: Path, skylight: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report") / "root"
    shutil.copytree(trained, root)
    for verb, *options in (("score", "--no-null"), ("report",)):
        done = skylight(verb, root / "experiment.yaml", "--root", root, *options)
        assert done.returncode == 0, done.stderr
    return root / "report" / "small" / "index.html"


def load(tab: Any, report: Path) -> Any:
    tab.page.goto(report.as_uri())
    tab.until("document.querySelectorAll('.plot > div:not([data-drawn])').length === 0")
    return tab.page


def pixels(page: Any, selector: str) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(page.locator(selector).first.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image.astype(np.int64)


def test_every_plot_is_drawn_without_a_complaint_or_a_request(open_tab: Any, report: Path) -> None:
    tab = open_tab()
    page = load(tab, report)
    plots = json.loads(re.search(r'id="plots">(.*?)</script>', report.read_text())[1])  # type: ignore[index]
    assert plots
    for plot in plots:
        place = f"#plot-{plot['name']}"
        assert page.locator(place).get_attribute("data-drawn") == str(len(plot["lines"]))
        assert page.locator(f"{place} .legend button").count() == len(plot["lines"])
        assert len(np.unique(pixels(page, f"{place} .u-wrap canvas").reshape(-1, 3), axis=0)) > 20
    assert tab.complaints == []
    assert [address for address in tab.asked if not address.startswith("data:")] == [report.as_uri()]


def test_pictures_show_boxes(open_tab: Any, report: Path) -> None:
    page = load(open_tab(), report)
    frames = page.locator(".frames svg")
    assert 0 < frames.count() <= 12
    assert page.locator(".frames svg rect").count() > 0
    assert len(np.unique(pixels(page, ".frames svg").reshape(-1, 3), axis=0)) > 50


def test_a_line_is_hidden_by_its_button_and_comes_back(open_tab: Any, report: Path) -> None:
    page = load(open_tab(), report)
    before = pixels(page, "#plot-ap-second .u-wrap")
    button = page.locator("#plot-ap-second .legend button").first
    button.click()
    page.mouse.move(0, 0)
    assert button.get_attribute("aria-pressed") == "false"
    assert not np.array_equal(pixels(page, "#plot-ap-second .u-wrap"), before)
    button.click()
    page.mouse.move(0, 0)
    assert np.array_equal(pixels(page, "#plot-ap-second .u-wrap"), before)


def test_the_cursor_tells_values(open_tab: Any, report: Path) -> None:
    page = load(open_tab(), report)
    page.locator("#plot-ap-second .u-over").hover()
    assert re.fullmatch(r"[\d.]+", page.locator("#plot-ap-second .legend output").first.inner_text())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_both_schemes(open_tab: Any, report: Path, scheme: str) -> None:
    tab = open_tab(**PHONE, color_scheme=scheme)
    page = load(tab, report)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("[...document.querySelectorAll('.u-wrap')].every((one) => one.offsetWidth <= 360)")
    ground = pixels(page, "#plot-ap-second .u-wrap canvas")[2, 2].mean()
    assert bool(ground > 200) is (scheme == "light")
    assert tab.complaints == []


def test_plots_follow_the_scheme_while_the_page_is_open(open_tab: Any, report: Path) -> None:
    tab = open_tab(color_scheme="light")
    page = load(tab, report)
    colour = "getComputedStyle(document.documentElement).getPropertyValue('--line-0').trim()"
    light = page.evaluate(colour)
    drawn = "[...document.querySelectorAll('#plot-ap-second canvas')].map((one) => one.toDataURL())"
    before = page.evaluate(drawn)
    page.emulate_media(color_scheme="dark")
    tab.until(f"{colour} !== '{light}'")
    page.wait_for_timeout(200)
    assert all(now != then for now, then in zip(page.evaluate(drawn), before, strict=True))


def test_it_prints(open_tab: Any, report: Path, tmp_path: Path) -> None:
    tab = open_tab(color_scheme="dark")
    page = load(tab, report)
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) > 2
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.complaints == []


def test_tables_and_plots_speak_to_those_who_do_not_see(open_tab: Any, report: Path) -> None:
    page = load(open_tab(), report)
    assert page.evaluate("[...document.querySelectorAll('table')].every((one) => one.caption.textContent.length > 5)")
    assert page.evaluate("[...document.querySelectorAll('table')].every((one) => one.querySelector('th[scope=col]'))")
    labels = "[...document.querySelectorAll('[role=img]')].every((one) => one.getAttribute('aria-label').length > 8)"
    assert page.evaluate(labels)
    assert page.locator(".plot details table").count() == page.locator(".plot").count()
