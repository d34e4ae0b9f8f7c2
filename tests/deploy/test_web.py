"""The page's server: what it answers, what it costs the loop, and that pictures stop where they must."""

import json
import re
import struct
import threading
import time
import urllib.request
from typing import Any
from urllib.error import HTTPError

import cv2
import numpy as np
import pytest
from drawn import draw_picture
from prometheus_client.parser import text_string_to_metric_families
from watched import CLASSES, SETTINGS, observe, served, told

from deploy.errors import UserError
from deploy.events import Events
from deploy.settings import read_settings, settings_text
from deploy.web import WebSettings, open_web
from deploy.web.metrics import metrics_text
from deploy.web.pictures import Pictures


def get(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=20) as answer:
        return answer


def body(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=20) as answer:
        return bytes(answer.read())


def split(message: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack(">I", message[:4])
    return json.loads(message[4 : 4 + length]), message[4 + length :]


def test_frame_holds_picture_and_boxes_of_the_same_observation():
    with served() as web:
        web.publish(observe(0))
        web.publish(observe(7, size=(640, 480)))
        about, jpeg = split(body(web.address + "/api/frame"))
        image, boxes = draw_picture(np.random.default_rng(7), 640, 480)
    shown = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert shown.shape == (240, 320, 3)
    assert about["size"] == [640, 480]
    assert (about["number"], about["frame"]) == (2, 7)
    assert [row[:4] for row in about["boxes"]] == boxes.tolist()
    assert about["boxes"][0][4:] == [0.875, "square"]
    assert [row[4:] for row in about["tracks"]] == [[0.875, "square", 1, 0.0], [0.5, "door", 2, 0.4]]
    left, top, right, bottom = (boxes[0] / 2).astype(int)
    middle = shown[(top + bottom) // 2, (left + right) // 2].astype(int)
    assert np.abs(middle - image[int(boxes[0, 1] + 9), int(boxes[0, 0] + 9)]).max() < 60, "red is red, not blue"


def test_frame_waits_for_a_newer_one_and_says_how_long():
    with served() as web:
        web.publish(observe(0))
        first, _ = split(body(web.address + "/api/frame"))
        threading.Timer(0.3, lambda: web.publish(observe(1))).start()
        with urllib.request.urlopen(f"{web.address}/api/frame?after={first['number']}", timeout=20) as answer:
            held = float(answer.headers["X-Held"])
            second, _ = split(answer.read())
        assert (second["number"], held > 0.2) == (2, True)
        begin = time.monotonic()
        with urllib.request.urlopen(web.address + "/api/frame?after=2", timeout=20) as answer:
            assert (answer.status, answer.read()) == (204, b"")
        assert float(answer.headers["X-Held"]) <= time.monotonic() - begin
        # The number of an earlier run, which counted further.
        assert split(body(web.address + "/api/frame?after=5000"))[0]["number"] == 2


def test_age_is_that_of_the_answer_not_of_publishing():
    with served() as web:
        web.publish(observe(0, age=0.02))
        time.sleep(0.5)
        about, _ = split(body(web.address + "/api/frame"))
    assert about["published_age"] == 0.02
    assert about["age"] >= 0.52


def test_nothing_is_encoded_while_nobody_watches():
    with served() as web:
        for number in range(500):
            web.publish(observe(0) if number == 0 else observe(1))
        for address in ("/", "/api/status", "/metrics", "/healthz"):
            get(web.address + address)
        assert web.status()["encoded"] == 0
        body(web.address + "/api/frame")
        body(web.address + "/api/frame")
        assert web.status()["encoded"] == 1, "one picture for all who watch"


def test_pictures_keep_to_their_rate():
    now = [0.0]
    pictures = Pictures(CLASSES, rate=5, width=160, quality=50, clock=lambda: now[0])
    seen = 0
    for step in range(100):  # two seconds at 50 frames a second
        now[0] = step * 0.02
        pictures.put(observe(step))
        message = pictures.message(seen)
        if message is not None:
            about, _ = split(message)
            assert about["number"] == step + 1, "the newest, never one that waited"
            seen = about["number"]
    assert pictures.encoded == 10


def test_no_picture_is_made_where_streaming_is_off_and_boxes_go_on():
    with served() as web:
        web.publish(observe(0))
        web.may_stream = False
        about, jpeg = split(body(web.address + "/api/frame"))
        assert (about["has_picture"], jpeg, web.status()["encoded"]) == (False, b"", 0)
        assert about["boxes"]
        web.may_stream = True
        web.publish(observe(1))
        about, jpeg = split(body(web.address + "/api/frame"))
        assert (about["has_picture"], jpeg[:2]) == (True, b"\xff\xd8")


def test_status_holds_every_part_and_only_new_events():
    events = Events(stream=None)
    events.add("info", "source.open", "before the page")
    with served(events=events) as web:
        web.publish(observe(3))
        first = json.loads(body(web.address + "/api/status"))
        assert first["status"] == told()
        assert first["page"]["newest"]["milliseconds"]["network"] == 20.0
        assert [one["kind"] for one in first["events"]] == ["source.open", "web.open"]
        events.add("error", "mavlink.lost", "no heartbeat")
        known = f"?after={first['events'][-1]['number']}&run="
        again = json.loads(body(web.address + "/api/status" + known + first["run"]))
        assert [one["text"] for one in again["events"]] == ["no heartbeat"]
        restarted = json.loads(body(web.address + "/api/status" + known + "another"))
        assert len(restarted["events"]) == 3


def test_events_for_the_page_do_not_grow():
    events = Events(stream=None)
    with served(events=events) as web:
        for number in range(1000):
            events.add("info", "many", str(number))
        kept = json.loads(body(web.address + "/api/status"))["events"]
    assert len(kept) == 200
    assert kept[-1]["text"] == "999"


def test_what_is_no_json_does_not_break_the_page():
    odd = {"health": {"level": float("nan"), "load": np.float32(0.5), "when": {1: (1, 2)}}, "x": object()}
    with served(status=lambda: odd) as web:
        status = json.loads(body(web.address + "/api/status"))["status"]
        assert status["health"] == {"level": None, "load": 0.5, "when": {"1": [1, 2]}}
        assert body(web.address + "/metrics")


def test_a_part_whose_status_fails_is_told_and_serving_goes_on():
    events = Events(stream=None)
    with served(status=lambda: {"x": 1 // 0}, events=events) as web:
        for _ in range(3):
            with pytest.raises(HTTPError) as failed:
                body(web.address + "/api/status")
            assert failed.value.code == 500
        assert events.counts["web.failed"] == 1, "who asks often does not fill the flight log"
        assert events.newest(1)[0].text.startswith("/api/status: ZeroDivisionError")
        web.publish(observe(0))
        assert body(web.address + "/api/frame")


def test_metrics_are_read_by_prometheus_own_parser():
    status = told()
    status["bundle"]["name"] = 'a "quoted"\nname\\'
    events = Events(stream=None)
    events.add("warning", "stage.slow", "x")
    with served(status=lambda: status, events=events) as web:
        web.publish(observe(8))
        with urllib.request.urlopen(web.address + "/metrics", timeout=20) as answer:
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            text = answer.read().decode("utf-8")
    families = list(text_string_to_metric_families(text))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    found = {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}
    assert found["skylight_loop_dropped_frames_total", ()] == 412
    assert found["skylight_stage_seconds", (("quantile", "0.99"), ("stage", "network"))] == pytest.approx(0.0269)
    assert found["skylight_stage_budget_seconds", (("stage", "network"),)] == 0.022
    assert found["skylight_temperature_celsius", (("zone", "GPU-therm"),)] == 84.5
    assert found["skylight_events_total", (("kind", "stage.slow"),)] == 1
    assert found["skylight_mavlink_sent_total", (("message", "HEARTBEAT"),)] == 123
    assert found["skylight_mavlink_open", ()] == 1
    assert found["skylight_frames_published_total", ()] == 1
    assert found["skylight_frame_current", ()] == 1
    assert 0 < found["skylight_frame_age_seconds", ()] < 60
    (labels,) = [labels for name, labels in found if name == "skylight_bundle_info"]
    assert dict(labels)["name"] == 'a "quoted"\nname\\'
    assert all(re.fullmatch(r"[a-z_0-9]+", family.name) and family.documentation for family in families)
    kinds = {family.name: family.type for family in families}
    assert (kinds["skylight_loop_dropped_frames"], kinds["skylight_temperature_celsius"]) == ("counter", "gauge")


@pytest.mark.parametrize(
    ("ages", "status", "text"),
    [((), 503, "nothing"), ((0.02,), 200, "ok"), ((0.02, 0.5), 503, "0.500 s old, limit 0.3 s")],
)
def test_healthz_is_well_only_while_output_is_current(ages, status, text):
    with served() as web:
        for number, age in enumerate(ages):
            web.publish(observe(number, age=age))
        try:
            answer = (200, body(web.address + "/healthz").decode())
        except HTTPError as error:
            answer = (error.code, error.read().decode())
    assert answer[0] == status
    assert text in answer[1]


def test_close_ends_thread_and_frees_the_port():
    before = threading.active_count()
    with served() as web:
        port = int(web.address.rpartition(":")[2])
    web.close()
    assert threading.active_count() == before
    with served(SETTINGS._replace(port=port)):
        pass


def test_port_that_is_taken_is_refused():
    with served() as web:
        port = int(web.address.rpartition(":")[2])
        before = threading.active_count()
        with pytest.raises(UserError, match="Address already in use; end who has it"):
            open_web(SETTINGS._replace(port=port), CLASSES, dict, Events(stream=None))
        assert threading.active_count() == before


def test_switched_off_it_is_not_there():
    assert open_web(WebSettings(enabled=False), CLASSES, dict, Events(stream=None)) is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("port = 70000", "port=70000: is out of range; allowed: 0 to 65535"),
        ("rate = 0", "rate=0.0: is out of range; allowed: 0.2 to 30"),
        ("host = 0.0.0.0", "host=0.0.0.0: others can reach it, and there is no token_file"),
        ("host = drone.local", "others can reach it"),
        ("width = big", "write a whole number"),
        ("tokens = x", "unknown key"),
    ],
)
def test_settings_are_refused(tmp_path, line, message):
    path = tmp_path / "detect.ini"
    path.write_text(f"[web]\n{line}\n")
    with pytest.raises(UserError, match=re.escape(message)):
        read_settings(path, {"web": WebSettings})


def test_settings_are_read(tmp_path):
    path = tmp_path / "detect.ini"
    path.write_text("[web]\nhost = 0.0.0.0\ntoken_file = /x\nnames = drone.lan, field\nrate = 2.5\n")
    settings = read_settings(path, {"web": WebSettings})["web"]
    assert settings == WebSettings(host="0.0.0.0", token_file="/x", names=("drone.lan", "field"), rate=2.5)
    assert "# port = 8080" in settings_text({"web": WebSettings})


@pytest.mark.parametrize(("ago", "value"), [(0.3, 1.0), (60.0, 0.0)])
def test_metrics_call_nothing_current_when_the_loop_has_stopped(ago, value):
    newest = {"number": 3, "age": ago + 0.1, "published_ago": ago, "is_current": True}
    lines = metrics_text({}, {"newest": newest}, {}).splitlines()
    assert f"skylight_frame_current {value}" in lines
