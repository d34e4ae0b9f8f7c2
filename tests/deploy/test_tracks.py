"""Numbers that stay over gaps and are never given twice, smoother boxes, nothing invented beyond the gap."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.assignment import best_pairs
from deploy.errors import UserError
from deploy.frame import Detections, Track
from deploy.nms import iou
from deploy.tracks import Tracker, TrackSettings

FRAME = 1 / 30


def found(*boxes: tuple[float, ...], score: float = 0.9, classes: list[int] | None = None) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(count, score, np.float32),
        np.array(classes or [0] * count, np.int64),
    )


NOTHING = found()


def test_a_number_is_given_after_the_hits_asked_for():
    tracker = Tracker(TrackSettings(min_hits=3))
    told = [tracker.update(frame * FRAME, found((10, 10, 50, 60))) for frame in range(4)]
    assert [len(tracks) for tracks in told] == [0, 0, 1, 1]
    assert [(track.number, track.hits, track.is_bridging) for track in told[3]] == [(1, 4, False)]


def test_a_flicker_of_one_frame_gets_no_number_and_takes_none():
    tracker = Tracker(TrackSettings(min_hits=2))
    for frame in range(20):
        assert not tracker.update(frame * FRAME, found((10, 10, 50, 60)) if frame % 2 else NOTHING)
    tracker.update(1.0, found((10, 10, 50, 60)))
    assert [track.number for track in tracker.update(1.03, found((10, 10, 50, 60)))] == [1]


def test_a_gap_is_bridged_with_its_speed_and_said_and_then_it_ends():
    tracker = Tracker(TrackSettings(max_gap=0.5))
    for frame in range(30):
        left = 100 + 200 * frame * FRAME  # 200 pixels a second
        (track,) = tracker.update(frame * FRAME, found((left, 100, left + 60, 180))) or (None,)
    assert track is not None
    assert track.velocity[0] == pytest.approx(200, rel=0.05)
    last = 29 * FRAME
    (bridged,) = tracker.update(last + 0.3, NOTHING)
    assert bridged.number == track.number
    assert bridged.is_bridging
    assert bridged.bridged == pytest.approx(0.3)
    assert bridged.hits == 30
    assert bridged.box[0] == pytest.approx(track.box[0] + 60, abs=3)
    (still,) = tracker.update(last + 0.5, NOTHING)
    assert still.bridged == pytest.approx(0.5)
    assert tracker.update(last + 0.51, NOTHING) == ()


def test_gaps_are_seconds_however_many_frames_they_have():
    for frames in (1, 4, 40):
        tracker = Tracker(TrackSettings(max_gap=0.5, min_hits=1))
        (before,) = tracker.update(0.0, found((10, 10, 50, 60)))
        for index in range(1, frames):
            tracker.update(0.45 * index / frames, NOTHING)
        (after,) = tracker.update(0.45, found((10, 10, 50, 60)))
        assert (after.number, after.is_bridging) == (before.number, False)


def test_boxes_are_smoother_than_detections_and_do_not_lag():
    rng = np.random.default_rng(3)
    tracker, truth, raw, smooth = Tracker(TrackSettings()), [], [], []
    for frame in range(300):
        moment = frame * FRAME
        true = np.array(
            [300 + 150 * math.sin(moment), 200 + 20 * moment, 380 + 150 * math.sin(moment), 300 + 20 * moment]
        )
        seen = true + rng.normal(0, 3, 4)
        tracks = tracker.update(moment, found(tuple(seen)))
        if tracks and frame > 30:
            truth.append(true)
            raw.append(seen)
            smooth.append(tracks[0].box)
    errors = [np.sqrt(np.mean((np.array(boxes) - np.array(truth)) ** 2)) for boxes in (raw, smooth)]
    assert errors[1] < 0.7 * errors[0]
    assert abs(np.mean(np.array(smooth) - np.array(truth))) < 0.5
    assert tracks[0].size_error[0] == pytest.approx(3 * math.sqrt(2), rel=0.5)


def test_classes_do_not_take_each_others_tracks():
    tracker = Tracker(TrackSettings(min_hits=1))
    (first,) = tracker.update(0.0, found((10, 10, 50, 60), classes=[0]))
    tracks = tracker.update(FRAME, found((10, 10, 50, 60), classes=[1]))
    assert [(track.number, track.class_index, track.is_bridging) for track in tracks] == [(1, 0, True), (2, 1, False)]
    assert first.number == 1


def test_the_best_assignment_wins_over_the_greedy_one():
    """Both windows moved right by half a window: greedy would give the left one's number to the wrong one."""
    gain = np.array([[0.5, 0.6], [0.0, 0.55]])
    assert best_pairs(gain, 0.2) == [(0, 0), (1, 1)]


@settings(deadline=None)
@given(st.integers(0, 25), st.integers(0, 25), st.sampled_from([0.1, 0.3, 1.0]), st.booleans(), st.integers(0, 10**6))
def test_pairs_gain_as_much_as_scipys(rows, columns, share, has_ties, seed):
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    rng = np.random.default_rng(seed)
    gain = rng.random((rows, columns)) * (rng.random((rows, columns)) < share)
    gain = gain.round(1) if has_ties else gain
    pairs = best_pairs(gain, 0.3)
    usable = np.where(gain >= 0.3, gain, 0)
    best = usable[linear_sum_assignment(-usable)].sum()
    assert sum(gain[pair] for pair in pairs) == pytest.approx(best)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert all(gain[pair] >= 0.3 for pair in pairs)
    assert pairs == sorted(pairs)


def test_the_last_row_moves_ninety_nine_others_on():
    gain = np.zeros((100, 100))
    gain[np.arange(99), np.arange(99)], gain[np.arange(99), np.arange(1, 100)] = 0.6, 0.599
    gain[99, 0] = 0.5
    assert best_pairs(gain, 0.2) == [(row, row + 1) for row in range(99)] + [(99, 0)]
    gain[99, 0] = 0.05
    assert best_pairs(gain, 0.01) == [(row, row) for row in range(99)]  # that is worth less than it costs


def test_a_hundred_equal_boxes_are_all_paired_and_what_is_no_number_never():
    assert best_pairs(np.full((100, 100), 0.5), 0.2) == [(index, index) for index in range(100)]
    assert best_pairs(np.full((100, 100), math.nan), 0.2) == []


_COORDINATE = st.one_of(st.floats(-2000, 2000, width=32), st.floats(width=32))
_SHOT = st.tuples(
    st.floats(-0.2, 3.0),
    st.lists(st.tuples(_COORDINATE, _COORDINATE, _COORDINATE, _COORDINATE, st.integers(0, 1)), max_size=5),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_SHOT, max_size=15))
def test_whatever_comes_numbers_are_never_given_twice_and_nothing_is_nan(shots):
    tracker, moment, ended, alive = Tracker(TrackSettings(min_hits=1)), 0.0, set[int](), set[int]()
    for step, rows in shots:
        moment += step  # backwards too
        tracks = tracker.update(moment, found(*(row[:4] for row in rows), classes=[row[4] for row in rows]))
        numbers = [track.number for track in tracks]
        assert numbers == sorted(set(numbers))
        assert not ended & set(numbers)
        ended |= alive - set(numbers)
        alive = set(numbers)
        for track in tracks:
            assert np.isfinite([*track.box, *track.velocity, *track.size_error, track.bridged]).all()
            assert track.box[2] > track.box[0]
            assert track.box[3] > track.box[1]
            assert 0 <= track.bridged <= 0.5 + 1e-6


def _flight(seed: int, frames: int = 90) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """A row of four windows that drifts by, irregular in time; each is missed now and then for less than the gap."""
    rng = np.random.default_rng(seed)
    moment, shots = 0.0, []
    hidden = np.zeros(4)
    drift = rng.uniform(-120, 120, 2)
    for frame in range(frames):
        moment += float(rng.choice([0.033, 0.033, 0.066, 0.1]))
        corners = np.array([[100 + 200 * index, 100, 180 + 200 * index, 220] for index in range(4)], float)
        boxes = corners + np.tile(drift * moment * 0.3, 2) + rng.normal(0, 1.5, (4, 4))
        hidden = np.where((hidden < moment - 0.1) & (rng.random(4) < 0.05) & (frame > 5), moment + 0.3, hidden)
        shots.append((moment, boxes, hidden < moment))
    return shots


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_numbers_stay_over_occlusions_shorter_than_the_gap(seed):
    tracker = Tracker(TrackSettings(max_gap=0.5))
    owners: dict[int, int] = {}
    for moment, boxes, is_seen in _flight(seed):
        for track in tracker.update(moment, found(*map(tuple, boxes[is_seen]))):
            overlap = iou(np.array([track.box]), boxes)[0]
            assert overlap.max() > 0.5, "it is told where nothing is"
            assert owners.setdefault(track.number, int(overlap.argmax())) == overlap.argmax()
    assert len(owners) == 4


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_the_order_of_detections_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    trackers = Tracker(TrackSettings()), Tracker(TrackSettings())
    for moment, boxes, is_seen in _flight(seed, 40):
        seen = boxes[is_seen]
        order = rng.permutation(len(seen))
        told = [
            tracker.update(moment, found(*map(tuple, rows)))
            for tracker, rows in zip(trackers, (seen, seen[order]), strict=True)
        ]
        assert told[0] == told[1]


def test_state_does_not_grow():
    rng = np.random.default_rng(0)
    tracker = Tracker(TrackSettings(min_hits=1))
    for frame in range(300):
        corners = rng.uniform(0, 5000, (30, 2))
        tracks = tracker.update(frame * FRAME, found(*map(tuple, np.concatenate([corners, corners + 20], axis=1))))
    assert len(tracks) == 100
    tracker.update(300.0, NOTHING)
    assert tracker.update(300.1, NOTHING) == ()


def test_settings_out_of_range_are_refused():
    for wrong in ({"min_hits": 0}, {"max_gap": -1.0}, {"iou": 1.0}, {"agility": 0.0}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            TrackSettings(**wrong).check()
    TrackSettings().check()


def _cars(video: Path, weights: Path) -> list[Detections]:
    """What a small COCO network of Darknet sees as cars; every fifth frame sees nothing, as if they were hidden."""
    network = cv2.dnn.DetectionModel(cv2.dnn.readNetFromDarknet(str(weights.with_suffix(".cfg")), str(weights)))
    network.setInputParams(1 / 255, (320, 320), (0, 0, 0), True)
    capture, shots = cv2.VideoCapture(str(video)), list[Detections]()
    while True:
        is_read, image = capture.read()
        if not is_read:
            return shots
        classes, scores, boxes = network.detect(image, 0.3, 0.45)
        rows = [
            (box[0], box[1], box[0] + box[2], box[1] + box[3], score)
            for label, score, box in zip(classes, scores, boxes, strict=True)
            if label == 2
        ]
        if len(shots) % 5 == 4:
            rows = []
        values = np.array(rows, np.float32).reshape(-1, 5)
        shots.append(Detections(values[:, :4], values[:, 4], np.zeros(len(values), np.int64)))


def test_the_two_cars_ahead_keep_their_numbers_in_a_real_video(shared_data):
    """25 frames a second from a car on a motorway: two cars at the right, small ones far ahead that come and go."""
    video, weights = (
        shared_data / "video" / "udacity_test_video.mp4",
        shared_data / "darknet" / "yolo-fastest-1.1.weights",
    )
    tracker, history = Tracker(TrackSettings()), dict[int, list[Track]]()
    for frame, detections in enumerate(_cars(video, weights)):
        for track in tracker.update(frame / 25, detections):
            history.setdefault(track.number, []).append(track)
    largest = {number: max((one.box[2] - one.box[0]) for one in tracks) for number, tracks in history.items()}
    cars = [number for number, width in largest.items() if width > 110]
    assert len(cars) == 2, largest
    for number in cars:
        assert len(history[number]) == 38 - 2, "told from the third detection to the end"
        assert sum(track.is_bridging for track in history[number]) == 7
