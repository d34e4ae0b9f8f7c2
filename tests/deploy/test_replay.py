"""A bundle on the frames of a flight: what another one would have found, and the frames that feed curation."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from colour_model import square, write_colour_bundle
from drawn import assert_refused
from flown import new_log, wait_for
from signed_bundle import edit

from deploy.backends import OnnxRuntimeBackend
from deploy.bundle import Bundle, read_bundle
from deploy.cli import main
from deploy.flightlog.reading import FlightRecords, find_flight
from deploy.frame import Observation
from deploy.golden import How, detect_frame
from deploy.replay.frames import Named, bundle_detector, compare, replay, summarise
from deploy.sources import open_source
from deploy.vision import Vision
from pipeline.curate.droneflights import read_drone_log, write_kept_frames
from pipeline.curate.flights import pick_frames
from pipeline.curate.flightsource import unreviewed_ids
from pipeline.curating import add_flight
from pipeline.errors import UserError
from pipeline.progress import Bars
from pipeline.workspace import Workspace
from pipeline.yolo_folder import read_layout

_COLOURS = [(250, 20, 20), (20, 240, 20), (165, 20, 20), (20, 20, 20)]  # the third hardly above the threshold


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_colour_bundle(tmp_path_factory.mktemp("bundles") / "colours-1")


@pytest.fixture(scope="module")
def strict(bundle: Bundle) -> Bundle:
    """The same model, which tells less."""
    root = Path(shutil.copytree(bundle.root, bundle.root.with_name("strict-1")))
    edit(root, None, score_threshold=0.8)
    return read_bundle(root)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "flight.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for number in range(12):
        writer.write(square(number % 4, number // 4, _COLOURS[number % 4]))
    writer.release()
    return path


@pytest.fixture(scope="module")
def log(bundle: Bundle, video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a flight on the video, with a second between two frames so that each may be kept."""
    folder = tmp_path_factory.mktemp("log")
    backend = OnnxRuntimeBackend(bundle.model)
    flown = new_log(folder, bundle, keep=600)
    for frame in open_source(str(video)):
        found = detect_frame(How.of(bundle), backend, frame.image, bundle.score_threshold)
        frame = frame._replace(captured=100.0 + frame.number)
        flown.publish(Observation(frame, found, (), 0.01, 0.1, 0, (64, 64), {}))
        wait_for(lambda: flown.status()["waiting"] == 0)
    flown.close()
    return folder


def test_the_same_bundle_finds_the_same_on_the_video(log, video, bundle):
    backend = OnnxRuntimeBackend(bundle.model)
    frames = [
        frame for frame, _ in replay(FlightRecords(find_flight(log)), bundle_detector(Vision(bundle, backend)), video)
    ]
    total = summarise(frames)
    assert (total.frames, total.changed_frames, total.appears, total.vanishes, total.moves) == (12, 0, 0, 0, 0)
    assert total.before == total.after == total.stays == 9
    assert total.largest_score_change < 1e-4


def test_another_bundle_on_the_kept_frames(log, strict, tmp_path, skylight):
    done = skylight("replay", log, "--bundle", strict.root, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    vanished = [frame for frame in said["frames"] if any(one["kind"] == "vanishes" for one in frame["changes"])]
    assert said["summary"]["frames"] >= 3
    assert said["summary"]["vanishes"] == len(vanished) == said["summary"]["changed_frames"] >= 3
    assert all(frame["frame"] % 4 == 2 for frame in vanished)
    pictures = sorted((tmp_path / "out").iterdir())
    assert [int(path.stem) for path in pictures] == [frame["frame"] for frame in vanished]
    for path in pictures:
        picture = cv2.imread(str(path))
        assert picture is not None
        assert picture.shape == (240, 644, 3)
        cell = int(path.stem) // 4 * 60 + 40, 2 * 80 + 40
        assert np.abs(picture[cell].astype(int) - _COLOURS[2][::-1]).max() < 30, "red is red, not blue"
    text = skylight("replay", log, "--bundle", strict.root)
    assert "vanishes" in text.stdout
    assert f"{said['summary']['frames']} frames, {len(vanished)} of them differ" in text.stdout


def test_against_another_bundle_on_the_same_pixels(log, bundle, strict, skylight):
    """Both on the JPEGs: what is left is the bundle's own."""
    same = skylight("replay", log, "--bundle", bundle.root, "--against", bundle.root, "--json")
    assert json.loads(same.stdout)["summary"]["largest_score_change"] == 0
    back = skylight("replay", log, "--bundle", bundle.root, "--against", strict.root, "--json")
    assert json.loads(back.stdout)["summary"]["appears"] >= 3


def test_refusals(log, bundle, video, tmp_path, skylight):
    (tmp_path / "there").mkdir()
    other = tmp_path / "other.avi"
    writer = cv2.VideoWriter(str(other), cv2.VideoWriter.fourcc(*"MJPG"), 25, (320, 240))
    for _ in range(12):
        writer.write(square(0, 0, (250, 20, 20)))
    writer.release()
    command = ("replay", log, "--bundle", bundle.root)
    assert_refused(skylight(*command, "--out", tmp_path / "there"), "is there already")
    assert_refused(skylight(*command, "--video", other), "in the log at 0.100 s; give the video that was flown on")
    assert_refused(skylight("replay", tmp_path, "--bundle", bundle.root), "holds no flight")
    assert_refused(skylight("log", "export", log, tmp_path / "x", "--rule", "nice"), "unknown", "margin")
    assert not (tmp_path / "x").exists()


def _named(*found: tuple[float, float, str]) -> Named:
    """Squares of 10 pixels at (left, score, class)."""
    boxes = np.array([(left, 0, left + 10, 10) for left, _, _ in found], np.float32).reshape(-1, 4)
    return Named(boxes, np.array([one[1] for one in found], np.float32), tuple(one[2] for one in found))


def test_objects_are_matched_by_class_and_overlap():
    before = _named((0, 0.9, "red"), (50, 0.8, "red"), (80, 0.7, "green"))
    after = _named((2, 0.5, "red"), (50, 0.8, "green"), (80, 0.7, "green"))
    kinds = [
        (one.kind, one.name, one.before and round(one.before, 2), one.after and round(one.after, 2))
        for one in compare(before, after)
    ]
    assert kinds == [
        ("moves", "red", 0.9, 0.5),
        ("vanishes", "red", 0.8, None),
        ("stays", "green", 0.7, 0.7),
        ("appears", "green", None, 0.8),
    ]
    assert compare(_named(), _named()) == ()


def test_one_box_answers_for_one():
    changes = compare(_named((0, 0.9, "red"), (1, 0.8, "red")), _named((0, 0.9, "red")))
    assert [change.kind for change in changes] == ["stays", "vanishes"]


def test_show_says_what_was_flown(log, skylight):
    about = json.loads(skylight("log", "show", log, "--json").stdout)
    assert about["records"]["frame"] == 12
    assert about["detections"] == 9
    assert about["age_ms"] == [10.0, 10.0]
    assert about["kept"]["margin"] == 3
    text = skylight("log", "show", log).stdout
    assert "frames     12 with 9 detections, 0 too old to be told" in text
    assert "bundle     colours 1, model " in text


def test_exported_frames_are_a_yolo_source_of_drafts(log, tmp_path, skylight):
    done = skylight("log", "export", log, tmp_path / "out", "--rule", "margin")
    assert done.returncode == 0, done.stderr
    layout = read_layout(tmp_path / "out", needed=("train",))
    assert layout.classes == ("red", "green")
    ids = [photo.stem for photo in layout.photos["train"]]
    assert [identity.rsplit("-", 1)[1] for identity in ids] == ["000002", "000006", "000010"]
    assert unreviewed_ids(tmp_path / "out") == set(ids)
    flight = find_flight(log)
    assert layout.photos["train"][0].read_bytes() == (flight / "frames" / "000002.jpg").read_bytes()
    label = (tmp_path / "out" / "labels" / f"{ids[0]}.txt").read_text().split()
    assert [float(value) for value in label] == pytest.approx([0, 0.625, 0.125, 0.25, 0.25], abs=1e-3)


def test_a_drones_flight_is_read_as_any_other(log):
    read = read_drone_log(FlightRecords(find_flight(log)))
    assert (read.threshold, read.classes, len(read.frames), read.is_film) == (0.6, ("red", "green"), 12, True)
    assert {frame.frame % 4 for frame in pick_frames(read, 3, 1, (320, 240), jump=2)} == {2}


def test_frames_that_were_deleted_are_left_out(log, tmp_path):
    flight = Path(shutil.copytree(find_flight(log), tmp_path / "flight-000001"))
    (flight / "frames" / "000002.jpg").unlink()
    made = write_kept_frames(tmp_path / "out", FlightRecords(flight), ("margin",))
    assert [one.image_id[-2:] for one in made] == ["06", "10"]
    shutil.rmtree(flight / "frames")
    with pytest.raises(UserError, match="it kept no such frame"):
        write_kept_frames(tmp_path / "again", FlightRecords(flight))
    assert not (tmp_path / "again").exists()


def test_the_drone_replays_too(log, bundle, strict, tmp_path, capsys):
    assert main(["replay", str(log), "--bundle", str(strict.root), "--against", str(bundle.root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["summary"]["vanishes"] >= 3
    assert main(["replay", str(tmp_path), "--bundle", str(strict.root)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_drones_flight_is_laid_down_for_curation(log, tmp_path):
    """`skylight curate RECIPE --flight FLIGHT` calls this; with the video it picks from all frames."""
    recipe = tmp_path / "target.yaml"
    shutil.copy(Path(__file__).resolve().parents[2] / "datasets" / "facades.yaml", recipe)
    folder = add_flight(recipe, find_flight(log), None, 40, Workspace(tmp_path), Bars())
    assert folder.parent.parent == tmp_path / "flights"
    assert {identity[-2:] for identity in unreviewed_ids(folder)} >= {"02", "06", "10"}
