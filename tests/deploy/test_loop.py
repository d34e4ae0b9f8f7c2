"""The flight loop: what it tells of each frame, how old it says that is, and what it does when something is wrong."""

import time

import numpy as np
import pytest
from colour_model import write_colour_bundle
from made_frames import MadeSource, is_of, picture

from deploy.backends import Networks, OnnxRuntimeBackend
from deploy.bundle import Bundle
from deploy.errors import UserError
from deploy.events import Events
from deploy.frame import Frame, Observation
from deploy.health.ladder import Orders
from deploy.loop import STAGES, Loop, LoopSettings
from deploy.part import Part
from deploy.vision import Vision


class Ears(Part):
    """Keeps what it is told."""

    name = "ears"

    def __init__(self) -> None:
        self.told: list[Observation] = []
        self.changes: list[tuple[str, object, int]] = []
        self.idles = 0

    def publish(self, observation: Observation) -> None:
        self.told.append(observation)

    def idle(self, now: float) -> None:
        self.idles += 1

    def change(self, bundle: Bundle, sizes: object) -> None:
        self.changes.append((bundle.name, sizes, len(self.told)))


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_colour_bundle(tmp_path_factory.mktemp("bundles") / "colours-1")


@pytest.fixture
def networks(colours: Bundle) -> Networks:
    return networks_of(colours)


def networks_of(bundle: Bundle) -> Networks:
    return Networks([Vision(bundle, OnnxRuntimeBackend(bundle.model, threads=1))])


def test_every_frame_is_told_once_with_its_own_detections_and_its_times(networks):
    ears = Ears()
    summary = Loop(MadeSource(range(40)), networks, [ears]).run()
    assert [told.frame.number for told in ears.told] == list(range(40))
    assert all(is_of(told.frame.number, told.detections) for told in ears.told)
    assert all(told.is_current and 0 < told.age < told.limit for told in ears.told)
    assert set(ears.told[0].milliseconds) == set(STAGES) - {"publish"}
    assert (summary.frames, summary.detections, summary.stale) == (40, 40, 0)
    assert set(summary.milliseconds) == set(STAGES)


@pytest.mark.parametrize(("kind", "is_counted"), [("video", True), ("live", False)])
def test_reading_a_file_is_reading_and_waiting_for_a_camera_is_not(networks, kind, is_counted):
    class Late(MadeSource):
        def newest(self, timeout: float) -> Frame | None:
            time.sleep(0.3)
            return super().newest(timeout)

    ears = Ears()
    Loop(Late([0], kind), networks, [ears]).run()
    assert next(iter(ears.told[0].milliseconds)) == "read"
    assert (ears.told[0].milliseconds["read"] >= 300) == is_counted


def test_what_is_older_than_the_limit_is_not_current_and_counted(networks):
    ears, events = Ears(), Events(None)
    summary = Loop(MadeSource([0, (1, 0.5), 2]), networks, [ears], LoopSettings(age_ms=300), events=events).run()
    assert [told.is_current for told in ears.told] == [True, False, True]
    assert ears.told[1].age >= 0.5
    assert summary.stale == 1
    event, again = events.newest()
    assert (event.kind, "frame 1 was 5" in event.text, "limit is 300 ms" in event.text) == ("loop.stale", True, True)
    assert (again.kind, again.text) == ("loop.current", "frames are current again; 1 were too old")


def test_staleness_that_lasts_is_said_once(networks):
    events = Events(None)
    Loop(MadeSource([(number, 0.5) for number in range(30)]), networks, [], LoopSettings(100), events=events).run()
    assert events.counts == {"loop.stale": 1}


def test_network_that_takes_too_long_makes_its_own_frame_stale(colours):
    class Slow(OnnxRuntimeBackend):
        def infer(self, tensor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            time.sleep(0.03)
            return super().infer(tensor)

    ears = Ears()
    slow = Networks([Vision(colours, Slow(colours.model, threads=1))])
    Loop(MadeSource([0]), slow, [ears], LoopSettings(age_ms=20)).run()
    assert not ears.told[0].is_current


def test_parts_are_told_that_there_is_nothing(networks):
    ears = Ears()
    Loop(MadeSource([0, None, None, None, 1]), networks, [ears]).run()
    assert (len(ears.told), ears.idles) == (2, 3)


@pytest.mark.parametrize(
    "image",
    [
        None,
        np.zeros((4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3)),
    ],
)
def test_what_is_no_picture_is_counted_and_not_run(networks, image):
    ears, events = Ears(), Events(None)
    corrupt = Frame(1, time.monotonic(), None, image, "made")
    summary = Loop(MadeSource([0, corrupt, 2]), networks, [ears], events=events).run()
    assert [told.frame.number for told in ears.told] == [0, 2]
    assert (summary.corrupt, events.counts) == (1, {"frame.corrupt": 1})


def test_part_that_fails_is_left_out_and_a_vital_one_ends_the_loop(networks):
    class Broken(Part):
        name = "broken"

        def publish(self, observation: Observation) -> None:
            raise ValueError("no")

    ears, events, broken = Ears(), Events(None), Broken()
    Loop(MadeSource(range(5)), networks, [broken, ears], events=events).run()
    assert len(ears.told) == 5
    assert events.counts == {"part.broken": 1}
    broken.is_vital = True
    with pytest.raises(ValueError, match="no"):
        Loop(MadeSource(range(5)), networks, [broken]).run()


def test_stage_over_its_budget_is_named_once_and_when_it_is_over(networks):
    events = Events(None)
    steps = list(range(200))
    loop = Loop(MadeSource(steps), networks, events=events, budget_ms={"network": 1e-6, "read": 1000.0})
    loop.run()
    assert events.counts == {"budget.network": 1}
    assert "its budget is 1e-06 ms" in events.newest()[0].text
    assert loop.status()["over_budget"] == ["network"]
    loop._budget.limits["network"] = 1000.0
    loop._source = MadeSource(steps)
    loop.run()
    assert events.counts == {"budget.network": 2}
    assert loop.status()["over_budget"] == []


def test_bundle_is_changed_between_two_frames(networks, colours, tmp_path):
    other = colours._replace(name="other", score_threshold=0.999)

    class Changer(Part):
        def publish(self, observation: Observation) -> None:
            if observation.frame.number == 9:
                loop.change(networks_of(other))

    ears = Ears()
    loop = Loop(MadeSource(range(20)), networks, [Changer(), ears])
    loop.run()
    assert ears.changes == [("other", ((64, 64),), 10)]
    assert [len(told.detections.scores) for told in ears.told] == [1] * 20
    assert loop.status()["frames"] == 20
    assert loop.vision.bundle.name == "other"


class _Counted(OnnxRuntimeBackend):
    closed = 0

    def close(self) -> None:
        self.closed += 1


def _counted(bundle: Bundle) -> tuple[Networks, _Counted]:
    backend = _Counted(bundle.model, threads=1)
    return Networks([Vision(bundle, backend)]), backend


def test_every_bundle_that_was_changed_to_is_closed_once(colours):
    made = [_counted(colours) for _ in range(4)]

    class Changer(Part):
        def publish(self, observation: Observation) -> None:
            if observation.frame.number == 2:
                loop.change(made[1][0])
                loop.change(made[2][0])
            if observation.frame.number == 4:
                loop.change(made[3][0])  # there is no frame after it

    loop = Loop(MadeSource(range(5)), made[0][0], [Changer()])
    loop.run()
    assert loop.vision is made[2][0].own
    assert [backend.closed for _, backend in made] == [1, 1, 0, 0]
    loop.close()
    assert [backend.closed for _, backend in made] == [1, 1, 1, 1]


def test_bundle_with_other_classes_is_not_changed_to_in_flight(networks, colours):
    """Page, autopilot and log hold the names of those that they were made for."""
    other = colours._replace(classes=("green", "red"))
    with pytest.raises(UserError, match=r"green, red.*restart"):
        Loop(MadeSource([]), networks).change(networks_of(other))


def test_orders_choose_the_size_and_the_rate(networks, colours):
    small = Vision(colours, networks.own.backend)
    small.size = (32, 32)
    both = Networks([networks.own, small])
    orders = [Orders()]
    ears = Ears()

    class Heat(Part):
        def publish(self, observation: Observation) -> None:
            orders[0] = Orders(size=(32, 32) if 5 <= observation.frame.number < 10 else None)

    loop = Loop(MadeSource(range(15)), both, [ears, Heat()], orders=lambda: orders[0])
    loop.run()
    assert [told.network[0] for told in ears.told] == [64] * 6 + [32] * 5 + [64] * 4

    begin = time.monotonic()
    Loop(MadeSource(range(5)), networks, orders=lambda: Orders(max_rate=50.0)).run()
    assert time.monotonic() - begin >= 4 / 50


def test_status_is_plain_json_values_before_and_after_the_first_frame(networks):
    import json

    loop = Loop(MadeSource(range(8)), networks, [])
    before = json.loads(json.dumps(loop.status()))
    assert (before["frames"], before["age_ms"], before["rate"]) == (0, None, 0.0)
    loop.run()
    after = json.loads(json.dumps(loop.status()))
    assert (after["frames"], after["frame"], after["size"]) == (8, 7, [64, 64])
    assert after["rate"] > 0
    assert after["age_ms"] > 0


@pytest.mark.parametrize("settings", [{"age_ms": 0.0}, {"age_ms": 1e9}, {"frames": 0}, {"rate": 0.0}])
def test_settings_out_of_range_are_refused(settings):
    (name,) = settings
    with pytest.raises(UserError, match=name):
        LoopSettings(**settings).check()


def test_larger_pictures_give_boxes_in_their_own_pixels(networks):
    frame = Frame(0, time.monotonic(), None, picture(5, 320, 240), "made")
    ears = Ears()
    Loop(MadeSource([frame]), networks, [ears]).run()
    assert ears.told[0].detections.boxes.round().tolist() == [[80, 60, 160, 120]]
