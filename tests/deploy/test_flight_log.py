"""The flight log: what is written comes back, within its share of the disk, and no fault of the disk stops a flight."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_model import write_colour_bundle
from flown import SETTINGS, detections, new_log, observation, wait_for
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.bundle import Bundle
from deploy.errors import UserError
from deploy.events import Events
from deploy.flightlog.budget import trim_frames
from deploy.flightlog.lines import decode, encode
from deploy.flightlog.part import FlightLog
from deploy.flightlog.reading import FlightRecords, find_flight, flight_name
from deploy.flightlog.segments import SegmentWriter, flights, segments
from deploy.flightlog.summary import flight_summary
from deploy.frame import Track
from deploy.pictures import read_picture

HERE = (10.0, 10.0, 30.0, 30.0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_colour_bundle(tmp_path_factory.mktemp("bundle") / "colours-1")


def _of(records: list[dict], kind: str) -> list[dict]:
    return [record for record in records if record["type"] == kind]


def test_what_was_told_comes_back(tmp_path, bundle):
    events = Events(None)
    log = new_log(tmp_path, bundle, events)
    track = Track(7, (10, 10, 30, 30), (1.5, -2), 0.8, 1, 9, 0.0)
    log.publish(observation(3, detections((HERE, 0.75, 1)), tracks=(track,)))
    events.add("warning", "camera.lost", "no frame for 5 s")
    log.sent({"type": "LANDING_TARGET", "angle_x": 0.1, "q": [1.0, float("nan")], "raw": b"\x01"})
    log.close()
    read = FlightRecords(find_flight(tmp_path))
    records = list(read)
    assert read.problems == []
    assert [record.get("n") for record in records] == [None, 0, 1, 2]
    assert read.header["number"] == 1
    assert read.header["bundle"]["sha256"] == bundle.files["model.onnx"].sha256
    assert read.header["bundle"]["classes"] == ["red", "green"]
    assert (read.header["about"], read.header["log"]["sync"]) == ({"camera": "csi"}, 0.1)
    assert {"python", "numpy", "opencv", "skylight"} <= set(read.header["versions"])
    frame = records[1]
    assert (frame["frame"], frame["age_ms"], frame["limit_ms"], frame["network"]) == (3, 20.0, 100.0, [64, 64])
    assert frame["detections"] == [{"class": 1, "name": "green", "score": 0.75, "box": list(HERE)}]
    assert frame["tracks"][0]["number"] == 7
    assert (records[2]["kind"], records[2]["level"]) == ("camera.lost", "warning")
    assert records[3]["message"] == {"type": "LANDING_TARGET", "angle_x": 0.1, "q": [1.0, None], "raw": "b'\\x01'"}
    assert log.status()["synced"] == 3


def test_every_start_has_its_own_number(tmp_path, bundle):
    for _ in range(3):
        new_log(tmp_path, bundle).close()
    assert [number for number, _ in flights(tmp_path)] == [1, 2, 3]
    (tmp_path / "flight-000041").mkdir()
    new_log(tmp_path, bundle).close()
    assert flights(tmp_path)[-1][0] == 42
    ids = {flight_name(FlightRecords(path).header, path) for _, path in flights(tmp_path) if segments(path)}
    assert len(ids) == 4


def test_what_the_board_says_is_written_beside(tmp_path, bundle):
    log = FlightLog(SETTINGS._replace(folder=str(tmp_path)), bundle, Events(None), watch=lambda: {"level": 2})
    wait_for(lambda: log.status()["written"])
    log.close()
    assert _of(list(FlightRecords(find_flight(tmp_path))), "heat")[0]["status"] == {"level": 2}


def test_part_whose_status_fails_stops_the_log_for_a_moment_only(tmp_path, bundle, monkeypatch):
    """Whatever goes wrong in its thread is told, and the thread lives."""
    monkeypatch.setattr("deploy.flightlog.part._AGAIN", 0.1)
    answers: list[dict] = [{"level": 2}]

    def watch() -> dict:
        if len(answers) == 1:
            answers.append({})
            raise KeyError("level")
        return answers[0]

    events = Events(None)
    log = FlightLog(SETTINGS._replace(folder=str(tmp_path), heat=1.0), bundle, events, watch=watch)
    wait_for(lambda: "log.stopped" in events.counts)
    assert "KeyError('level')" in events.newest()[0].text
    wait_for(lambda: "log.resumed" in events.counts)
    log.publish(observation(3))
    log.close()
    assert len(_of(list(FlightRecords(find_flight(tmp_path))), "frame")) == 1


def test_segments_are_filled_and_the_oldest_deleted(tmp_path, bundle):
    """Several flights, each larger than the share of the disk; the header stays readable."""
    for _ in range(2):
        log = new_log(tmp_path, bundle, disk=4.0, segment=0.05, protect=0.0)
        for number in range(6000):
            log.publish(observation(number, detections(*[(HERE, 0.9, 0)] * 8)))
            if number % 500 == 0:
                wait_for(lambda log=log: log.status()["waiting"] < 2)
        log.close()
    sizes = [segment.bytes for _, flight in flights(tmp_path) for segment in segments(flight)]
    assert 3.5 * 2**20 < sum(sizes) <= 4 * 2**20
    read = FlightRecords(find_flight(tmp_path))
    assert [number for number, _ in flights(tmp_path)] == [read.header["number"]] == [2]
    frames = _of(list(read), "frame")
    assert frames[-1]["frame"] == 5999
    assert read.problems[0].startswith("segments 0 to ")
    numbers = [frame["n"] for frame in frames]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_the_end_of_this_flight_is_never_deleted(tmp_path, bundle):
    events = Events(None)
    log = new_log(tmp_path, bundle, events, disk=4.0, segment=0.1, protect=20.0)
    for number in range(7000):
        log.publish(observation(number, detections(*[(HERE, 0.9, 0)] * 8)))
        if number % 500 == 0:
            wait_for(lambda: log.status()["waiting"] < 2)
    wait_for(lambda: log.status()["problem"])
    log.close()
    assert "its share of the disk is full with what must stay" in events.newest()[-1].text
    frames = _of(list(FlightRecords(find_flight(tmp_path))), "frame")
    assert [frame["frame"] for frame in frames] == list(range(len(frames)))
    assert sum(segment.bytes for segment in segments(find_flight(tmp_path))) <= 4.1 * 2**20
    assert log.status()["dropped"]["frame"] == 7000 - len(frames)


def test_a_queue_that_is_full_drops_and_counts(tmp_path, bundle):
    log = new_log(tmp_path, bundle, queue=10)
    for number in range(3000):
        log.publish(observation(number))
    dropped = log.status()["dropped"]["frame"]
    log.close()
    records = list(FlightRecords(find_flight(tmp_path)))
    assert dropped > 2000
    assert len(_of(records, "frame")) == 3000 - log.status()["dropped"]["frame"]
    log_said = sum(record["records"].get("frame", 0) for record in _of(records, "dropped"))
    assert 0 <= log_said <= log.status()["dropped"]["frame"]


_FULL_DISK = """
import sys, time
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from typing import Any
from flown import new_log, observation, detections, wait_for
from deploy.bundle import read_bundle
from deploy.events import Events
import deploy.flightlog.part as part
part._AGAIN = 0.3
where, events = Path(sys.argv[1]), Events(None)
log = new_log(where / "log", read_bundle(Path(sys.argv[2])), events, segment=8.0)
found = detections(*[((10.0, 10.0, 30.0, 30.0), 0.9, 0)] * 8)
kinds = lambda: [event.kind for event in events.newest()]
number = 0
def fly_until(condition):
    global number
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, (kinds(), log.status())
        log.publish(observation(number, found))
        number += 1
        time.sleep(0.0005)
fly_until(lambda: log.status()["written"] > 100)
%s
fly_until(lambda: "log.stopped" in kinds())
%s
fly_until(lambda: "log.resumed" in kinds())
before = log.status()["written"]
fly_until(lambda: log.status()["written"] > before + 100)
log.close()
print(number, log.status()["dropped"]["frame"], kinds())
"""
_LIMITS = (
    "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    "resource.setrlimit(resource.RLIMIT_FSIZE, (300000, -1))",
    "resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))",
)
_DISK = (
    "ballast = open(str(where / 'ballast'), 'wb', buffering=0); ballast.write(bytes(2 << 20))",
    "ballast.truncate(0)",
)


def _fly_into_full_disk(place: Path, bundle: Bundle, steps: tuple[str, str], before: tuple[str, ...] = ()) -> str:
    """Fly until the disk takes no more, make room, fly on; returns what the flight said at its end."""
    places = [str(Path(__file__).parent), str(Path(__file__).resolve().parents[2])]
    code = [sys.executable, "-c", _FULL_DISK % steps, str(place), str(bundle.root), *places]
    done = subprocess.run([*before, *code], capture_output=True, text=True, timeout=200, check=False)
    if "unshare" in done.stderr or "cannot mount" in done.stdout:
        pytest.skip(f"no disk of its own here: {done.stderr}")
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def _check_full_disk(said: str, log: Path) -> None:
    flown, dropped, kinds = said.split(" ", 2)
    assert kinds.strip() == "['log.stopped', 'log.resumed']"
    read = FlightRecords(find_flight(log))
    records = list(read)
    assert read.problems == []
    assert int(dropped) > 0
    assert len(_of(records, "frame")) == int(flown) - int(dropped)
    assert sum(record["records"].get("frame", 0) for record in _of(records, "dropped")) <= int(dropped)
    assert [record["kind"] for record in _of(records, "event")] == ["log.stopped", "log.resumed"]


def test_a_disk_that_takes_no_more_stops_the_log_and_not_the_flight(tmp_path, bundle):
    """A limit of the kernel on the length of files: a write ends in the middle of a line, then fails."""
    said = _fly_into_full_disk(tmp_path, bundle, _LIMITS)
    _check_full_disk(said, tmp_path / "log")
    assert len(segments(find_flight(tmp_path / "log"))) >= 2


def test_a_full_disk_stops_the_log_until_there_is_room(tmp_path, bundle):
    """On a disk of 1.5 MiB, which is really full."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here")
    script = (
        'mkdir "$0/disk"; mount -t tmpfs -o size=1536k none "$0/disk" || { echo cannot mount; exit 1; }; '
        '"$@"; code=$?; cp -r "$0/disk/log" "$0/kept"; exit $code'
    )
    before = ("unshare", "-rm", "sh", "-c", script, str(tmp_path))
    _check_full_disk(_fly_into_full_disk(tmp_path / "disk", bundle, _DISK, before), tmp_path / "kept")


def test_a_folder_that_cannot_be_made_is_told_and_flown_on(tmp_path, bundle):
    (tmp_path / "log").write_text("a file, no folder")
    events = Events(None)
    log = new_log(tmp_path / "log", bundle, events)
    log.publish(observation(0))
    wait_for(lambda: log.status()["problem"])
    log.publish(observation(1))
    wait_for(lambda: log.status()["waiting"] < 2)
    log.close()
    assert [event.kind for event in events.newest()] == ["log.stopped"]
    assert log.status()["dropped"]["frame"] == 2


def test_a_log_that_is_off_writes_nothing(tmp_path, bundle):
    events = Events(None)
    log = new_log(tmp_path / "log", bundle, events, is_on=False)
    log.publish(observation(0))
    log.sent({})
    events.add("info", "a", "b")
    log.close()
    assert not (tmp_path / "log").exists()


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
_RECORDS = st.lists(st.dictionaries(st.text(), _JSON, max_size=5).map(lambda one: {"type": "x", **one}), max_size=12)


@given(st.dictionaries(st.text(), _JSON, min_size=1, max_size=5))
def test_a_line_is_json_and_comes_back(record):
    record.pop("crc", None)
    line = encode({"type": "x", **record})
    assert decode(line) == json.loads(json.dumps({"type": "x", **record}))
    assert set(json.loads(line)) == {"type", "crc", *record}


@settings(deadline=None, max_examples=200)
@given(data=st.data(), count=st.integers(1, 20))
def test_whatever_a_power_cut_leaves_the_whole_lines_come_back(tmp_path_factory, data, count):
    """Cut anywhere, and end in zeros, noise or a piece of an older line: nothing that was whole is lost or changed."""
    lines = [encode({"type": "x", "n": number, "value": number * 7}) for number in range(count)]
    content = b"".join(lines)
    cut = data.draw(st.integers(0, len(content)))
    tail = data.draw(st.binary(max_size=40) | st.just(bytes(4096)) | st.just(lines[0][: len(lines[0]) // 2]))
    folder = tmp_path_factory.mktemp("cut") / "flight-000001"
    folder.mkdir()
    (folder / "segment-000000.jsonl").write_bytes(content[:cut] + tail)
    whole = content[:cut].count(b"\n")
    read = FlightRecords(folder)
    found = list(read)
    assert found[:whole] == [{"type": "x", "n": number, "value": number * 7} for number in range(whole)]
    assert found[whole:] in ([], [{"type": "x", "n": whole, "value": whole * 7}])  # the tail may complete a line
    if len(found) == whole and content[:cut] + tail != b"".join(lines[:whole]):
        assert read.problems


@given(st.binary(min_size=1, max_size=200))
def test_noise_is_no_record(noise):
    assert decode(noise) is None
    assert decode(noise + b"\n") is None


def test_a_changed_byte_drops_its_line_alone(tmp_path):
    folder = tmp_path / "flight-000001"
    folder.mkdir()
    lines = [encode({"type": "x", "n": number, "box": [1.5]}) for number in range(5)]
    lines[2] = lines[2].replace(b"1.5", b"1.6")
    (folder / "segment-000000.jsonl").write_bytes(b"".join(lines))
    read = FlightRecords(folder)
    assert [record["n"] for record in read] == [0, 1, 3, 4]
    assert read.problems == [f"segment-000000.jsonl: a line is not whole, {len(lines[0])} bytes at {2 * len(lines[0])}"]


def test_what_holds_no_flight_is_refused(tmp_path):
    for path, message in ((tmp_path / "x", "no such folder"), (tmp_path, "holds no flight")):
        with pytest.raises(UserError, match=message):
            find_flight(path)
    (tmp_path / "flight-000001").mkdir()
    with pytest.raises(UserError, match="holds no flight"):
        find_flight(tmp_path)
    with pytest.raises(UserError, match="flight 9: is not in"):
        find_flight(tmp_path, 9)


def test_disk_that_turns_read_only_while_a_segment_begins_does_not_stop_the_log_for_ever(tmp_path, monkeypatch):
    """Its header does not fit, and what was made cannot be removed either: the next segment has another name."""

    def fails(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    writer = SegmentWriter(tmp_path, {"type": "header"}, 1 << 20)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fails)
        patch.setattr("pathlib.Path.unlink", fails)
        with pytest.raises(OSError, match="Read-only"):
            writer.append([encode({"n": 0})], 0.0)
    writer.append([encode({"n": 0})], 1.0)
    writer.finish(1.0)
    assert [record.get("n") for record in FlightRecords(tmp_path)] == [None, 0]


def test_frames_of_all_flights_are_looked_through_once_while_there_is_room(tmp_path, bundle, monkeypatch):
    """There are thousands of them, and the loop's thread waits for the one that looks."""
    looks: list[int] = []

    def counted(folder: Path, limit: int, *others: Any) -> int:
        looks.append(limit)
        return trim_frames(folder, limit, *others)

    monkeypatch.setattr("deploy.flightlog.part.trim_frames", counted)
    monkeypatch.setattr("deploy.flightlog.part._TRIM", 0.0)
    log = new_log(tmp_path, bundle, keep=600)
    for number in range(6):
        log.publish(observation(number, detections((HERE, 0.61, 0))))
        wait_for(lambda: log.status()["kept"].get("margin") == number + 1)  # noqa: B023
    log.close()
    assert len(looks) == 1
    used = sum(path.stat().st_size for path in (find_flight(tmp_path) / "frames").iterdir())
    assert log.status()["frames_mib"] == round(used / 2**20, 2) > 0


def test_frames_worth_labelling_are_kept_within_their_share(tmp_path, bundle):
    noise = (np.random.default_rng(0).integers(0, 256, (400, 300, 1)) * [0.2, 0.6, 1.0]).astype(np.uint8)  # reddish
    log = new_log(tmp_path, bundle, keep=600, frames_disk=1.0, protect=0.0, quality=100)
    for number in range(14):
        log.publish(observation(number, detections((HERE, 0.61, 0)), image=np.roll(noise, number, axis=1)))
        wait_for(lambda: log.status()["kept"].get("margin") == number + 1)  # noqa: B023
    log._trim_at = 0.0
    log.close()
    frames = sorted((find_flight(tmp_path) / "frames").iterdir())
    assert sum(path.stat().st_size for path in frames) <= 2**20
    assert 2 <= len(frames) < 14
    assert [path.suffix for path in frames] == [".jpg", ".json"] * (len(frames) // 2)
    assert frames[-1].stem == "000013"  # the oldest went
    about = json.loads(frames[-1].read_text())
    assert (about["frame"], about["width"], about["height"]) == (13, 300, 400)
    assert about["rules"] == [{"rule": "margin", "score": pytest.approx(0.9, abs=1e-3)}]
    assert about["seen"]["detections"][0]["name"] == "red"
    assert np.abs(read_picture(frames[-2]).astype(int) - np.roll(noise, 13, axis=1)).mean() < 20
    kept = _of(list(FlightRecords(find_flight(tmp_path))), "kept")
    assert [record["file"] for record in kept][-1] == "frames/000013.jpg"


def test_what_is_worth_labelling_is_near_the_threshold_of_the_bundle_that_flies(tmp_path, bundle):
    """0.92 is sure for a threshold of 0.6, and unsure for one of 0.9."""
    log = new_log(tmp_path, bundle, keep=60)
    found = detections(((10.0, 10.0, 30.0, 30.0), 0.92, 0))
    log.publish(observation(0, found))
    log.change(bundle._replace(score_threshold=0.9), [(64, 64)])
    log.publish(observation(1, found))
    log.close()
    kept = _of(list(FlightRecords(find_flight(tmp_path))), "kept")
    rules = [(record["frame"], rule["rule"]) for record in kept for rule in record["rules"]]
    assert rules == [(0, "scene"), (1, "margin")]


@pytest.mark.parametrize("most", [1000, 20])
def test_summary_of_a_long_flight_has_the_ages_of_all_of_it(tmp_path, bundle, monkeypatch, most):
    """They grow from 0 to 199 ms; where fewer are kept than there were, the middle is still the middle."""
    monkeypatch.setattr("deploy.flightlog.summary._AGES", most)
    log = new_log(tmp_path, bundle)
    for number in range(200):
        log.publish(observation(number)._replace(age=number / 1000))
    log.close()
    median, slow = flight_summary(FlightRecords(find_flight(tmp_path)))["age_ms"]
    assert (median, slow) == pytest.approx((99.5, 197.0), abs=10)
