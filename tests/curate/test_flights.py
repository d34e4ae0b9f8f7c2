import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from drawn import Skylight, draw_picture
from drawn_source import draw_photo

from deploy.sources import open_source
from pipeline.curate.flightlog import FlightFrame, FlightLog, read_flight_log
from pipeline.curate.flights import PickedFrame, pick_frames
from pipeline.curate.flightsource import UNREVIEWED, extract_frames, unreviewed_ids, write_flight_source
from pipeline.errors import UserError

SIZE = (640, 480)
HERE = (300.0, 200.0, 380.0, 300.0)
Found = Sequence[tuple[tuple[float, float, float, float], float]]  # box and score


def _log(frames: Sequence[Found], threshold: float = 0.25, name: str | None = "flight.mp4") -> FlightLog:
    """A hand-made log of 25 frames per second; without a name every frame is a picture of its own."""
    made = [
        FlightFrame(
            number,
            name or f"{number}.png",
            number / 25,
            np.array([box for box, _ in found], dtype=np.float64).reshape(-1, 4),
            np.array([score for _, score in found], dtype=np.float64),
            ("Window",) * len(found),
        )
        for number, found in enumerate(frames)
    ]
    return FlightLog("0" * 64, "videos/flight.mp4", threshold, ("Window",), tuple(made))


def _said(picked: Sequence[PickedFrame]) -> list[tuple[int, str, float]]:
    return [(frame.frame, frame.reason, round(frame.score, 6)) for frame in picked]


def test_a_steady_flight_has_nothing_worth_labelling() -> None:
    assert pick_frames(_log([[(HERE, 0.9)]] * 50), 10, size=SIZE) == []


def test_best_score_near_the_threshold_is_low_confidence() -> None:
    scores = [0.9, 0.26, 0.9, 0.34, 0.9, 0.41, 0.9]
    frames = [[(HERE, score), (HERE, 0.26)] for score in scores]  # the second, weak one does not count
    frames[1] = [(HERE, 0.26)]
    picked = pick_frames(_log(frames), 9, min_gap=1, size=SIZE, band=0.15, jump=2)
    assert _said(picked) == [(1, "low_confidence", pytest.approx(1 - 0.01 / 0.15)), (3, "low_confidence", 0.4)]


def test_a_threshold_of_ones_own_finds_what_nearly_was_detected() -> None:
    log = _log([[(HERE, score)] for score in (0.06, 0.2, 0.3, 0.9)], threshold=0.05)
    assert [frame.frame for frame in pick_frames(log, 9, 1, SIZE, threshold=0.25, band=0.1, jump=2)] == [1, 2]


def test_a_jump_of_the_score_picks_the_weaker_frame() -> None:
    frames = [[(HERE, score)] for score in (0.9, 0.9, 0.55, 0.9, 0.9)]
    assert _said(pick_frames(_log(frames), 9, 1, SIZE)) == [(2, "flicker", 0.35)]
    assert pick_frames(_log(frames), 9, 1, SIZE, jump=0.4) == []


def test_an_object_missed_for_a_moment_picks_the_frame_without_it() -> None:
    frames: list[Found] = [[(HERE, 0.9)], [(HERE, 0.8)], [], [], [(HERE, 0.7)], [(HERE, 0.7)]]
    assert _said(pick_frames(_log(frames), 9, 1, SIZE)) == [(2, "flicker", 0.7)]


def test_another_object_elsewhere_is_no_flicker() -> None:
    there = (0.0, 0.0, 80.0, 100.0)
    frames: list[Found] = [[(HERE, 0.9), (there, 0.5)], [(HERE, 0.9)], [(HERE, 0.9), (there, 0.5)]] * 3
    apart: list[Found] = [[(HERE, 0.9)], [(there, 0.5)], [(HERE, 0.9)]]
    assert {frame.reason for frame in pick_frames(_log(frames), 9, 1, SIZE)} == {"flicker"}
    assert _said(pick_frames(_log(apart), 9, 1, SIZE)) == [(1, "flicker", 0.9)]  # HERE is missed, not exchanged


def test_a_moving_object_stays_the_same_object() -> None:
    frames = [[((20.0 + 15 * n, 200.0, 100.0 + 15 * n, 300.0), 0.9)] for n in range(30)]
    assert pick_frames(_log(frames), 9, 1, SIZE) == []


@pytest.mark.parametrize(
    ("left", "speed", "is_lost"),
    [(300, 0, True), (300, 5, True), (2, 0, False), (540, 10, False), (540, -10, True)],
)
def test_only_what_vanishes_inside_the_picture_is_lost(left: float, speed: float, is_lost: bool) -> None:
    boxes = [(left + speed * n, 200.0, left + 80 + speed * n, 300.0) for n in range(-5, 1)]
    frames: list[Found] = [[(box, 0.8)] for box in boxes]
    picked = pick_frames(_log([*frames, [], [], [], []]), 9, 1, SIZE)
    assert _said(picked) == ([(6, "lost", 0.8)] if is_lost else [])


def test_what_was_seen_too_shortly_or_at_the_end_is_not_lost() -> None:
    assert pick_frames(_log([[(HERE, 0.8)]] * 4 + [[]] * 9), 9, 1, SIZE) == []
    assert pick_frames(_log([[(HERE, 0.8)]] * 9 + [[]] * 2), 9, 1, SIZE) == []
    assert len(pick_frames(_log([[(HERE, 0.8)]] * 5 + [[]] * 9), 9, 1, SIZE)) == 1


def test_pictures_of_a_folder_are_no_film() -> None:
    frames: list[Found] = [*[[(HERE, 0.9)]] * 9, *[[]] * 5, [(HERE, 0.3)]]
    log = _log(frames, name=None)
    assert not log.is_film
    assert _said(pick_frames(log, 9, 1, SIZE)) == [(14, "low_confidence", pytest.approx(1 - 0.05 / 0.15))]


def test_picks_are_apart_and_spread_over_the_flight() -> None:
    # Weak all along, and weakest in the first fifth: a plain ranking would take everything from there.
    frames = [[(HERE, 0.251 if number < 40 else 0.3)] for number in range(200)]
    picked = pick_frames(_log(frames), 10, min_gap=5, size=SIZE)
    numbers = [frame.frame for frame in picked]
    assert len(numbers) == 10
    assert np.diff(numbers).min() >= 5
    assert sorted(number // 20 for number in numbers) == list(range(10))


def test_what_one_stretch_lacks_another_gives() -> None:
    frames = [[(HERE, 0.26 if number < 40 else 0.9)] for number in range(200)]
    numbers = [frame.frame for frame in pick_frames(_log(frames), 10, min_gap=5, size=SIZE, jump=2)]
    assert len(numbers) == 8
    assert max(numbers) < 40


def test_reasons_take_turns() -> None:
    lost: list[Found] = [*[[(HERE, 0.8)]] * 6, *[[]] * 8]
    weak: list[Found] = [*[[(HERE, 0.26)]] * 4, *[[]] * 8]
    jumps: list[Found] = [[(HERE, 0.9)], [(HERE, 0.6)], [(HERE, 0.9)], *[[]] * 8]
    picked = pick_frames(_log(lost + weak + jumps), 3, 1, SIZE)
    assert {frame.reason for frame in picked} == {"lost", "low_confidence", "flicker"}


def _clip(path: Path, count: int = 40) -> Path:
    """A film of a red square that is there, grey for a while, and there again."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 80))
    pictures = [draw_picture(np.random.default_rng(seed))[0] for seed in range(count // 4)]
    for number in range(count):
        writer.write(pictures[number // 4])
    writer.release()
    return path


def test_a_real_flight_becomes_a_source(tmp_path: Path, skylight: Skylight, bundle: Path) -> None:
    video = _clip(tmp_path / "flight 3.mp4")
    done = skylight("detect", "--bundle", bundle, "--source", video, "--out", tmp_path / "out", "--threshold", 0.05)
    assert done.returncode == 0, done.stderr
    log = read_flight_log(tmp_path / "out")
    assert (len(log.frames), log.classes, log.threshold, log.is_film) == (40, ("square",), 0.05, True)
    picked = pick_frames(log, 6, min_gap=2, size=(96, 80), threshold=0.3, band=0.3)
    assert len(picked) == 6
    candidates = write_flight_source(tmp_path / "source", log, picked, video)
    assert [one.image_id for one in candidates] == [f"flight-3-{frame.frame:06d}" for frame in picked]
    frames = {frame.number: frame.image for frame in open_source(str(video))}
    for frame, candidate in zip(picked, candidates, strict=True):
        _assert_shows(candidate.path, frames[frame.frame])
        assert (candidate.rule, set(candidate.box_rules)) == (UNREVIEWED, {UNREVIEWED} if len(frame.boxes) else set())
        np.testing.assert_allclose(candidate.boxes * [96, 80, 96, 80], frame.boxes, atol=0.02)
        rows = np.loadtxt(tmp_path / "source" / "labels" / f"{candidate.image_id}.txt", ndmin=2).reshape(-1, 5)
        np.testing.assert_allclose(rows[:, 1:3], (candidate.boxes[:, :2] + candidate.boxes[:, 2:]) / 2, atol=1e-6)
        assert candidate.scores[frame.reason] == frame.score
    assert yaml.safe_load((tmp_path / "source" / "data.yaml").read_text())["names"] == {0: "square"}
    assert unreviewed_ids(tmp_path / "source") == {one.image_id for one in candidates}
    with (tmp_path / "source" / "picked.csv").open() as file:
        assert {row["log_sha256"] for row in csv.DictReader(file)} == {log.sha256}
    with pytest.raises(UserError, match="is there already"):
        write_flight_source(tmp_path / "source", log, picked, video)


def _assert_shows(path: Path, image: np.ndarray) -> None:
    """The JPEG at `path` shows `image`, (H, W, 3) uint8 BGR, and no other of the drawn pictures."""
    written = cv2.imread(str(path))
    assert written is not None
    assert np.abs(written.astype(int) - image).mean() < 8


def test_another_video_than_the_logs_is_refused(tmp_path: Path) -> None:
    picked = pick_frames(_log([[(HERE, 0.26)]] * 9), 1, size=SIZE)
    video = _clip(tmp_path / "other.mp4", 12)  # 10 frames per second; the log says 25
    picked = [replace(picked[0], frame=5, source_time=5 / 25)]
    with pytest.raises(UserError, match=r"in the log 0\.2"):
        extract_frames(picked, video, tmp_path / "out", "flight")
    with pytest.raises(UserError, match="ends before frame 50"):
        extract_frames([replace(picked[0], frame=50)], video, tmp_path / "out", "flight")
    with pytest.raises(UserError, match="ends before frame 50"):
        write_flight_source(tmp_path / "new", _log([[]]), [replace(picked[0], frame=50)], video)
    assert not (tmp_path / "new").exists()


def test_another_picture_than_the_logs_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((10, 10, 3), np.uint8))
    picked = pick_frames(_log([[(HERE, 0.26)]], name="a.png"), 1)
    with pytest.raises(UserError, match=r"is b\.png, in the log a\.png"):
        extract_frames(picked, tmp_path, tmp_path / "out", "flight")


HEADER = {"source": "a.mp4", "classes": ["Window"], "threshold": 0.25}
ROW = {"frame": 0, "name": "a.mp4", "source_time": 0.0, "detections": []}


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        ([], ("line 1", "header")),
        ([ROW], ("line 1", "header")),
        ([HEADER], ("no frames",)),
        ([HEADER, ROW, ROW], ("line 3", "frame 0 after frame 0")),
        ([HEADER, {"frame": 0}], ("line 2", "not the line of a frame")),
        (
            [HEADER, ROW | {"detections": [{"name": "Arch", "score": 0.5, "box": [0, 0, 1, 1]}]}],
            ("line 2", "cannot be"),
        ),
        (
            [HEADER, ROW | {"detections": [{"name": "Window", "score": 2, "box": [0, 0, 1, 1]}]}],
            ("line 2", "cannot be"),
        ),
        (
            [HEADER, ROW | {"detections": [{"name": "Window", "score": 1, "box": [0, 0, 1]}]}],
            ("line 2", "not the line"),
        ),
    ],
)
def test_what_is_no_flight_log_is_refused(tmp_path: Path, lines: list[dict], parts: tuple[str, ...]) -> None:
    (tmp_path / "detections.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError) as refused:
        read_flight_log(tmp_path)
    for part in parts:
        assert part in str(refused.value)


def test_a_missing_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_flight_log(tmp_path)


def test_frames_of_a_flight_join_the_set_once_a_person_keeps_them(
    tmp_path: Path, skylight: Skylight, bundle: Path
) -> None:
    """`skylight curate RECIPE --flight LOG`, then a verdict, then `skylight curate RECIPE`."""
    photos = tmp_path / "photos"
    for seed in range(8):
        draw_photo(photos / "images" / f"p{seed}.jpg", seed, (96, 80))
        (photos / "labels").mkdir(exist_ok=True)
        (photos / "labels" / f"p{seed}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    recipe = tmp_path / "target.yaml"
    recipe.write_text(
        "name: target\nlicence: ours\nsource: {format: yolo, options: {classes: square}}\nclasses: [square]\n"
    )
    video = _clip(tmp_path / "flight 3.mp4")
    done = skylight("detect", "--bundle", bundle, "--source", video, "--out", tmp_path / "out", "--threshold", 0.05)
    assert done.returncode == 0, done.stderr
    command = ["curate", recipe, "--source", photos, "--root", tmp_path]
    done = skylight(*command, "--flight", tmp_path / "out", "--frames", 3)
    assert done.returncode == 0, done.stderr

    def in_the_set() -> set[str]:
        return {path.stem for path in (tmp_path / "data" / "target" / "images").rglob("*.jpg")}

    own = {f"p{seed}" for seed in range(8)}
    assert in_the_set() == own
    drafts = sorted(path.stem for path in (tmp_path / "flights" / "target" / "flight-3" / "images").iterdir())
    assert 2 <= len(drafts) <= 3
    (tmp_path / "target.review.csv").write_text(f"image_id,verdict,note\n{drafts[0]},keep,\n")
    (tmp_path / "flights" / "target" / "flight-3" / "labels" / f"{drafts[0]}.txt").write_text("0 0.3 0.3 0.2 0.2\n")
    done = skylight(*command)
    assert done.returncode == 0, done.stderr
    assert in_the_set() == own | {drafts[0]}
    (label,) = (tmp_path / "data" / "target" / "labels").rglob(f"{drafts[0]}.txt")
    assert label.read_text().split() == ["0", "0.3000000", "0.3000000", "0.2000000", "0.2000000"]
    story = skylight(*command, "--explain", drafts[1]).stdout
    assert "dropped by flight_unreviewed" in story
