"""Which frames are kept for labelling, and that no rule takes them all."""

import time
from collections import Counter

import numpy as np
import pytest
from flown import SETTINGS, detections, observation

from deploy.errors import UserError
from deploy.flightlog.settings import LogSettings
from deploy.flightlog.worth import RULES, Chooser, signature
from deploy.frame import Detections, Observation, Track

KEEP = SETTINGS._replace(keep=60, scene=255.0)
HERE, THERE = (10.0, 10.0, 30.0, 30.0), (40.0, 10.0, 60.0, 30.0)
SURE = detections((HERE, 0.95, 0))


def _rules(observations: list[Observation], settings: LogSettings = KEEP) -> list[tuple[int, str]]:
    """What is kept and why, but for the first scene, which is always new."""
    chooser = Chooser(settings, 0.6, seed=1)
    chooser._scenes.append(signature(observations[0].frame.image))
    return [(one.frame.number, reason.rule) for one in observations for reason in chooser.choose(one)]


def _scored(scores: list[float | None]) -> list[Observation]:
    found = [detections() if score is None else detections((HERE, score, 0)) for score in scores]
    return [observation(number, one) for number, one in enumerate(found)]


def test_a_steady_flight_keeps_nothing():
    assert _rules([observation(number, SURE) for number in range(500)]) == []


def test_a_score_just_above_the_threshold_is_unsure():
    assert _rules(_scored([0.95, 0.8, 0.69, 0.72])) == [(2, "margin")]


def test_a_score_that_jumps_or_an_object_missed_is_flicker():
    assert _rules(_scored([0.95, 0.8, 0.95])) == []
    assert _rules(_scored([0.98, 0.72, 0.98])) == [(1, "flicker"), (2, "flicker")]
    assert _rules(_scored([0.9, None, 0.9, 0.9])) == [(1, "flicker"), (2, "flicker")]


def test_another_class_or_place_is_another_object():
    for other in (detections((HERE, 0.95, 1)), detections((THERE, 0.95, 0))):
        assert _rules([observation(0, SURE), observation(1, other)]) == [(1, "flicker")]


def test_frames_far_apart_are_no_neighbours():
    assert _rules([observation(0, SURE), observation(100, detections())]) == []


def _track(hits: int, bridged: float) -> tuple[Track, ...]:
    return (Track(4, HERE, (0.0, 0.0), 0.9, 0, hits, bridged),)


@pytest.mark.parametrize(("hits", "expected"), [(9, [(1, "lost")]), (4, [])])
def test_a_track_is_lost_once_when_it_begins_to_be_bridged(hits, expected):
    seen = [observation(0, SURE, tracks=_track(hits, 0.0))]
    bridged = [observation(n, SURE, tracks=_track(hits, n / 25)) for n in range(1, 6)]
    assert _rules(seen + bridged) == expected


def test_a_new_scene_is_kept_and_other_light_is_none():
    rng = np.random.default_rng(3)
    scenes = [np.kron(rng.integers(0, 200, (6, 8, 3)), np.ones((40, 40, 1))).astype(np.uint8) for _ in range(2)]
    pictures = [scenes[0], scenes[0] + 30, scenes[1], scenes[0], scenes[1]]
    found: Detections = detections()
    flight = [observation(60 * number, found, image) for number, image in enumerate(pictures)]
    assert _rules(flight, KEEP._replace(scene=20.0)) == [(120, "scene")]


def test_chance_keeps_about_as_many_as_asked_for():
    flight = [observation(number, SURE) for number in range(0, 25 * 60 * 60, 5)]
    rules = _rules(flight, KEEP._replace(random_every=2.0))
    assert {rule for _, rule in rules} == {"random"}
    assert 18 <= len(rules) <= 45


def test_no_rule_takes_all_and_all_keep_to_the_minute():
    flight = []
    for number in range(25 * 60 * 5):  # five minutes of unsure frames, now and then a lost track
        tracks = _track(9, 0.1 if number % 500 == 0 else 0.0)
        flight.append(observation(number, detections((HERE, 0.61, 0)), tracks=tracks))
    counts = Counter(rule for _, rule in _rules(flight, KEEP._replace(keep=12)))
    assert counts["margin"] <= 6 * 6
    assert counts["lost"] >= 8
    assert sum(counts.values()) <= 12 * 6
    assert set(counts) <= set(RULES)


def test_settings_out_of_range_are_refused():
    LogSettings().check()
    for key, value in (("disk", 1.0), ("keep", -1), ("quality", 20), ("sync", 0.0), ("queue", 1)):
        with pytest.raises(UserError, match=f"{key}={value}: is out of range; "):
            LogSettings(**{key: value}).check()  # type: ignore[arg-type]


def test_storm_of_detections_does_not_hold_up_the_loop():
    """A damaged picture may give thousands of boxes; the watchdog waits ten seconds on a board ten times slower."""
    seed = 3
    print("seed", seed)
    chance = np.random.default_rng(seed)
    chooser = Chooser(LogSettings(), 0.25, seed)
    spent = []
    for number in range(2):
        corners, sizes = chance.uniform(0, 600, (3000, 2)), chance.uniform(5, 40, (3000, 2))
        boxes = np.concatenate([corners, corners + sizes], axis=1).astype(np.float32)
        scores = np.sort(chance.uniform(0.3, 0.9, 3000))[::-1].astype(np.float32)
        storm = Detections(boxes, scores, np.zeros(3000, np.int64))
        begin = time.perf_counter()
        chooser.choose(observation(number, storm))
        spent.append(time.perf_counter() - begin)
    assert max(spent) < 0.1
