"""The drone's page in a real browser: it draws, its age rises when the drone falls silent, it fits a phone."""

import threading
import time
from typing import Any

import numpy as np
import pytest
from watched import SETTINGS, observe, served, told

from deploy.events import Events
from deploy.web.server import Web

TOKEN = "a-token-long-enough"


class Flight:
    """Publishes 20 frames a second until it is stopped."""

    def __init__(self, web: Web, **options: Any) -> None:
        self._web, self._options = web, options
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Flight":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(0.05):
            self._web.publish(observe(number, **self._options))
            number += 1


DRAWN = "document.getElementById('picture').dataset.number > {}"


def test_page_draws_and_goes_on_drawing(open_tab):
    events = Events(stream=None)
    tab = open_tab()
    with served(events=events) as web, Flight(web):
        tab.page.goto(web.address)
        tab.until(DRAWN.format(1))
        first = tab.pixels()
        number = int(tab.page.locator("#picture").get_attribute("data-number"))
        tab.until(DRAWN.format(number + 10))
        assert np.abs(tab.pixels() - first).mean() > 3, "another picture"
        red = (first[..., 2] > 150) & (first[..., 1] < 90) & (first[..., 0] < 90)
        assert red.sum() > 1000, "the red square is red"
        tab.until("document.querySelectorAll('#tiles > div').length === 7")
        tab.until("document.getElementById('tiles').innerText.includes('85 °C')")
        assert "8123 sent, we say ACTIVE" in tab.text("#tiles")
        assert tab.text("#state") == "live, with limits"
        assert "arch 7" in tab.text("h1")
        assert "20.4 / 26.9 of 22 ms over" in tab.text("#stages")
        assert "84.5 of 80 °C" in tab.text("#heat")
        for told_text in ("TensorRT 8.2.1, fp16", "signed by team", "MAXP_CORE_ARM", "LANDING TARGET 8000"):
            assert told_text in tab.text("#parts")
        events.add("error", "camera.lost", "no frame for <b>5 s</b>")
        tab.until("document.getElementById('events').innerText.includes('no frame for <b>5 s</b>')")
        assert not tab.page.locator("#banner").is_visible()
    assert tab.complaints == []
    assert all(url.startswith(web.address) for url in tab.asked)


def test_boxes_are_where_the_drone_says(open_tab):
    tab = open_tab()
    with served() as web, Flight(web):
        tab.page.goto(web.address)
        tab.until(DRAWN.format(1))
        shares = {}
        for which in ("none", "tracks", "detections"):
            tab.page.select_option("#boxes", which)
            web._pictures.may_stream = False  # on black, boxes are all there is
            tab.until("document.getElementById('note').hidden === false")
            picture = tab.pixels()
            orange = (np.abs(picture - (0, 159, 230)).max(axis=2) < 30).sum()
            is_blue = np.abs(picture - (233, 180, 86)).max(axis=2) < 30
            if which == "tracks":
                scale = picture.shape[1] / 320
                left = is_blue[int(25 * scale) : int(68 * scale), int(5 * scale) - 2 : int(5 * scale) + 3].any(axis=1)
                assert 0.4 < left.mean() < 0.85, "what is not seen is dashed"
            shares[which] = (
                orange > 300,
                is_blue.sum() > 300,
                int(tab.page.get_attribute("#picture", "data-boxes")) > 0,
            )
    assert shares["none"] == (False, False, False)
    assert shares["tracks"] == (True, True, True), "the track that is seen, and the one that is bridged"
    assert shares["detections"][1:] == (False, True)


def test_age_rises_and_banner_comes_when_the_loop_stops(open_tab):
    tab = open_tab()
    with served() as web:
        with Flight(web):
            tab.page.goto(web.address)
            tab.until(DRAWN.format(5))
            assert not tab.page.locator("#banner").is_visible()
        tab.until("document.getElementById('banner-title').textContent.startsWith('OLD')")
        before = float(tab.page.get_attribute("#age", "data-seconds"))
        assert before >= 1.5
        tab.until("document.getElementById('banner-title').textContent.startsWith('Nothing seen for')")
        assert float(tab.page.get_attribute("#age", "data-seconds")) > before
        assert tab.page.locator("#banner").is_visible()
        assert tab.text("#state").startswith("Nothing seen")
        with Flight(web):
            tab.until("document.getElementById('banner').hidden")
            tab.until("document.getElementById('state').textContent === 'live, with limits'")
    assert tab.complaints == []


def test_page_notices_that_the_server_is_gone(open_tab):
    tab = open_tab()
    with served() as web, Flight(web):
        tab.page.goto(web.address)
        tab.until(DRAWN.format(5))
    tab.until("document.getElementById('banner-title').textContent.startsWith('No answer for')")
    assert float(tab.page.get_attribute("#age", "data-seconds")) > 2
    port = int(web.address.rpartition(":")[2])
    with served(SETTINGS._replace(port=port)) as again, Flight(again):
        tab.until("document.getElementById('banner').hidden")  # by itself, and with numbers that begin anew


def test_what_was_late_is_not_shown_as_now(open_tab):
    tab = open_tab()
    with served() as web, Flight(web, age=0.5):
        tab.page.goto(web.address)
        tab.until("document.getElementById('banner-title').textContent === 'TOO LATE'")
        assert "500 ms old when it was published; the limit is 300 ms" in tab.text("#banner")


def test_page_says_that_pictures_are_off(open_tab):
    tab = open_tab()
    with served() as web, Flight(web):
        web.may_stream = False
        tab.page.goto(web.address)
        tab.until("document.getElementById('note').textContent.includes('switched off on the drone to save heat')")
        assert web.status()["encoded"] == 0
        web.may_stream = True
        tab.until("document.getElementById('note').hidden")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone(open_tab, scheme):
    tab = open_tab(
        viewport={"width": 360, "height": 740},
        device_scale_factor=3,
        is_mobile=True,
        has_touch=True,
        color_scheme=scheme,
    )
    status = told()
    status["source"]["pipeline"] = "nvarguscamerasrc!" * 20  # one long word
    status["heat"]["temperatures"]["a_zone_with_a_very_long_name_indeed_therm"] = 20.0
    events = Events(stream=None)
    with served(status=lambda: status, events=events) as web, Flight(web):
        events.add("error", "camera.lost", "x" * 300)
        tab.page.goto(web.address)
        tab.until(DRAWN.format(1))
        tab.until("document.getElementById('parts').innerText.includes('nvargus')")
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 360
        assert tab.page.locator("#boxes").bounding_box()["height"] >= 44
        background = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(16, 20, 23)") is (scheme == "dark")
    assert tab.complaints == []


def test_page_lives_with_a_status_that_says_nothing(open_tab):
    tab = open_tab()
    with served(status=lambda: {"loop": None, "heat": 3, "mavlink": []}) as web, Flight(web):
        tab.page.goto(web.address)
        tab.until(DRAWN.format(1))
        tab.until("document.getElementById('stages').innerText.includes('network')")
        assert tab.text("#state") == "live"
    assert tab.complaints == []


def test_token_opens_the_page_once_and_for_all(open_tab, tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    tab = open_tab()
    with served(SETTINGS._replace(token_file=str(path))) as web, Flight(web):
        tab.page.goto(web.address)
        assert "asks for its token" in tab.text("h1")
        tab.page.fill("#token", "wrong")
        tab.page.click("button")
        assert "asks for its token" in tab.text("h1")
        tab.page.goto(f"{web.address}/login?token={TOKEN}")
        tab.until(DRAWN.format(1))
        assert TOKEN not in tab.page.url
        assert tab.page.evaluate("document.cookie") == ""
        tab.complaints.clear()
        tab.page.reload()
        tab.until(DRAWN.format(1))
    assert tab.complaints == []


def test_hidden_page_asks_for_no_pictures(open_tab):
    tab = open_tab()
    tab.page.add_init_script("Object.defineProperty(document, 'hidden', {get: () => true})")
    with served() as web, Flight(web):
        tab.page.goto(web.address)
        time.sleep(1)
        assert web.status()["encoded"] == 0
