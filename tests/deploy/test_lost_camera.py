"""A camera that fails, in whatever way, is told, opened again and told again; no frame of it comes twice or damaged."""

import contextlib
import threading
import time

import numpy as np
import pytest
from faulty_source import Faults, FaultySource, number_in
from scripted_camera import QUICK, Scripted, picture, take, take_until, wait_for

from deploy.errors import UserError
from deploy.events import Events
from deploy.sources import EndOfSource, LiveSource, SourceSettings
from deploy.sources.capture import Capture
from deploy.sources.pause import Pause
from deploy.sources.sight import Sight


def test_lost_camera_is_closed_told_opened_again_and_told():
    events = Events(stream=None)
    opened: list[Scripted] = []

    def opener() -> Capture:
        if len(opened) == 1 and events.counts.get("camera.lost", 0) and source.tries < 3:
            source.tries += 1
            raise UserError("camera: cannot be opened; check the cable")
        opened.append(Scripted(lambda number: picture(number) if number < 5 or len(opened) > 1 else None))
        return opened[-1]

    class Counting(LiveSource):
        tries = 0

    source = Counting("camera", opener, QUICK, events)
    take_until(lambda: len(opened) == 2 and opened[1].reads > 5, source)
    assert opened[0].is_closed
    assert source.tries == 3
    assert [(event.level, event.kind) for event in events.newest()] == [
        ("error", "camera.lost"),
        ("info", "camera.back"),
    ]
    assert source.status()["losses"] == 1
    assert not source.status()["is_lost"]
    source.close()
    assert opened[1].is_closed


def test_numbers_go_on_after_a_loss():
    opened: list[Scripted] = []

    def opener() -> Capture:
        opened.append(Scripted(lambda number: picture(number + 7 * len(opened)) if number < 4 else None))
        return opened[-1]

    source = LiveSource("camera", opener, QUICK)
    seen = [frame.number for frame in take_until(lambda: len(opened) > 3, source)]
    source.close()
    assert seen == sorted(set(seen))
    assert max(seen) > 4


def test_camera_that_hangs_is_left_and_opened_anew():
    """The first reader never comes back; when it does, it gives its device back and nothing else."""
    gate, events = threading.Event(), Events(stream=None)
    opened: list[Scripted] = []

    def opener() -> Capture:
        is_first = not opened
        opened.append(Scripted(lambda number: gate.wait() and picture(99) if is_first and number else picture(number)))
        return opened[-1]

    source = LiveSource("camera", opener, QUICK, events)
    take_until(lambda: len(opened) == 2 and opened[1].reads > 3, source)
    assert "camera: does not answer for 0.3 s" in [event.text for event in events.newest()]
    assert not opened[0].is_closed
    gate.set()
    wait_for(lambda: opened[0].is_closed)
    assert source.status()["losses"] == 1
    source.close()


def test_threads_left_behind_are_bounded_and_then_a_new_process_is_asked_for():
    gate, events = threading.Event(), Events(stream=None)
    settings = SourceSettings(patience=0.1, retry=0.01, longest_retry=0.01)
    before = threading.active_count()
    source = LiveSource("camera", lambda: Scripted(lambda number: gate.wait() and None), settings, events)
    with pytest.raises(UserError, match="5 readers hang in its driver; start again"):
        take_until(lambda: False, source)
    assert events.counts["camera.hung"] == 1
    assert threading.active_count() - before == 5
    source.close()
    gate.set()
    wait_for(lambda: threading.active_count() == before)


def test_frozen_camera_hands_out_no_frame_twice_and_is_opened_once_for_it():
    events = Events(stream=None)
    opened: list[Scripted] = []

    def opener() -> Capture:
        opened.append(Scripted(lambda number: picture(50)))
        return opened[-1]

    source = LiveSource("camera", opener, QUICK, events)
    assert take(source).number == 0
    begin = time.monotonic()
    assert take_until(lambda: time.monotonic() - begin > 1.5, source) == []
    assert source.status()["repeats"] > 20
    assert events.counts["camera.frozen"] == 2
    assert events.counts["camera.lost"] == 1
    assert len(opened) == 2
    assert source.status()["is_lost"]
    source.close()


def test_change_outside_the_rows_that_are_hashed_is_a_new_picture():
    sight = Sight(1, time.monotonic)
    first = np.zeros((480, 640, 3), np.uint8)
    second = first.copy()
    second[31, 7, 2] = 1
    assert [sight.is_repeat(image) for image in (first, first.copy(), second, second.copy())] == [
        False,
        True,
        False,
        True,
    ]


def test_damaged_frames_are_never_handed_out_and_too_many_are_a_loss():
    events = Events(stream=None)
    bad = [None, picture(1)[:-1], picture(1)[..., 0], picture(1).astype(np.float32), "text"]
    source = LiveSource(
        "camera",
        lambda: Scripted(lambda number: picture(number) if number < 3 else bad[1 + number % 4]),
        QUICK,
        events,
    )
    frames = take_until(lambda: "camera.lost" in events.counts, source)
    assert {frame.image.shape for frame in frames} == {(24, 32, 3)}
    assert source.status()["damaged"] > 5
    assert "gives damaged frames alone" in events.newest()[0].text
    source.close()


def test_library_that_raises_what_nobody_expects_loses_the_camera_and_not_its_reader():
    """Such as no memory for a frame that a damaged stream says is huge."""
    events = Events(stream=None)
    opened: list[Scripted] = []

    def make(number: int) -> object:
        if len(opened) == 1 and number == 3:
            raise MemoryError
        return picture(number)

    def opener() -> Capture:
        opened.append(Scripted(make))
        return opened[-1]

    source = LiveSource("camera", opener, QUICK, events)
    take_until(lambda: len(opened) == 2 and opened[1].reads > 3, source)
    source.close()
    assert events.newest()[0].text == "camera: cannot be read (MemoryError)"
    assert opened[0].is_closed

    opened.clear()
    film = LiveSource("film", opener, QUICK, is_endless=False)
    with pytest.raises(EndOfSource):
        take_until(lambda: False, film)
    film.close()


def test_camera_that_is_not_there_is_refused_or_waited_for():
    events = Events(stream=None)

    def refused() -> Capture:
        raise UserError("csi: cannot be opened; check the cable")

    with pytest.raises(UserError, match="csi: cannot be opened"):
        LiveSource("csi", refused, QUICK._replace(wait=False), events)
    assert events.counts == {}
    with LiveSource("csi", refused, QUICK._replace(wait=True), events) as source:
        wait_for(lambda: events.counts.get("camera.lost") == 1)
        assert source.newest(0.05) is None
        with pytest.raises(UserError, match="csi: csi: cannot be opened"):
            next(iter(source))


def test_pause_doubles_with_jitter_and_starts_again_when_it_worked():
    pause = Pause(0.5, 8)
    for expected in (0.5, 1, 2, 4, 8, 8):
        assert 0.75 * expected <= pause.next() <= 1.25 * expected
    pause.worked(3)
    assert pause.next() >= 6
    pause.worked(9)
    assert pause.next() <= 0.625
    assert len({Pause(0.5, 8).next() for _ in range(9)}) > 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_good_frame_of_a_faulty_camera_arrives_once(seed):
    print("seed", seed)
    events = Events(stream=None)
    faults = Faults(lost=0.02, stalled=0.005, damaged=0.05, repeated=0.05, stall=0.02)
    source = FaultySource(seed, 400, events, faults)
    seen: list[int] = []
    with contextlib.suppress(EndOfSource):
        while len(seen) <= 400:
            frame = source.newest(0.1)
            if frame is not None:
                seen.append(number_in(frame))
                assert frame.image.shape == (48, 64, 3)
    source.close()
    assert len(seen) + source.dropped == 400
    assert seen == sorted(set(seen))
    assert set(source.faults) == {"lost", "stalled", "damaged", "repeated"}
    assert 0 < events.counts["camera.lost"] == events.counts["camera.back"] <= source.faults["lost"]
    assert source.damaged == source.faults["damaged"]
