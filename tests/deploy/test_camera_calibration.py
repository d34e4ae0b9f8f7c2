"""A camera measured from drawn chessboards is the one they were drawn with; bad sets of pictures are refused."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn import assert_refused
from drawn_board import CAMERA, COLUMNS, ROWS, SQUARE, board_pose, draw_board

from deploy.camera import camera_of_view, read_camera
from deploy.camera_calibration import Board, Finder, calibrate, calibration_json
from deploy.errors import UserError

BOARD = Board(COLUMNS, ROWS, SQUARE)


def draw(tilt: float, count: int = 12, seed: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [draw_board(CAMERA, *board_pose(rng, tilt), rng) for _ in range(count)]


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return draw(35, 16)


def look_at(images: list[np.ndarray], board: Board = BOARD) -> Finder:
    finder = Finder(board)
    for number, image in enumerate(images):
        finder.add(f"{number:02d}.png", image)
    return finder


def test_the_camera_is_found_again(pictures, tmp_path):
    found = calibrate(look_at(pictures), "drawn")
    path = tmp_path / "camera.json"
    path.write_text(calibration_json(found))
    camera = read_camera(path)
    assert camera.is_calibrated
    assert (camera.width, camera.height) == (CAMERA.width, CAMERA.height)
    assert camera.fx == pytest.approx(CAMERA.fx, rel=0.004)
    assert camera.fy == pytest.approx(CAMERA.fy, rel=0.004)
    assert (camera.cx, camera.cy) == pytest.approx((CAMERA.cx, CAMERA.cy), abs=2)
    assert 0 < camera.focal_error < 0.004
    corners = np.array([(x, y) for x in (20, 320, 620) for y in (20, 240, 460)], float)
    assert np.abs(camera.undistorted(corners) - CAMERA.undistorted(corners)).max() < 0.005
    assert found.rms < 0.2
    assert all(view.error < 0.3 and 0 <= view.tilt < 60 for view in found.used)


def test_what_is_said_to_be_the_error_is_one(pictures):
    """The true values lie within four standard deviations of what was measured."""
    found = calibrate(look_at(pictures), "drawn")
    for value, error, true in zip(
        found.matrix, found.matrix_error, (CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy), strict=True
    ):
        assert abs(value - true) < 4 * error + 0.5
    assert found.distortion[4] == 0, "these lenses have no k3"


def test_each_picture_left_out_has_its_reason(pictures):
    x, y = np.meshgrid(np.arange(640, dtype=np.float32), np.arange(480, dtype=np.float32))
    bent = cv2.remap(draw(20, 1, seed=9)[0], x, y + 8 * np.sin(x / 40).astype(np.float32), cv2.INTER_LINEAR)
    empty = np.full_like(pictures[0], 128)
    small = cv2.resize(pictures[2], (320, 240))
    found = calibrate(look_at([*pictures, empty, small, pictures[3], bent]), "drawn")
    reasons = [view.reason for view in found.views[len(pictures) :]]
    assert reasons[:3] == ["board not found", "320x240, the first one has 640x480", "shows the same as 03.png"]
    assert reasons[3].startswith("its corners are off by")
    assert [view.reason for view in found.views[: len(pictures)]] == [""] * len(pictures)
    assert found.matrix[0] == pytest.approx(CAMERA.fx, rel=0.004)


def test_few_pictures_are_refused(pictures):
    with pytest.raises(UserError, match=r"5 of 6 pictures can be used \(1 times board not found\); 8 are needed"):
        calibrate(look_at([*pictures[:5], np.zeros_like(pictures[0])]), "drawn")


def test_a_board_that_is_not_there_is_refused(pictures):
    with pytest.raises(UserError, match=r"0 of 3 pictures can be used .*show all 7x5 inner corners"):
        calibrate(look_at(pictures[:3], Board(7, 5, 25.0)), "drawn")


def test_boards_held_square_on_are_refused():
    """They fit as well as any: every focal length goes with some distance."""
    with pytest.raises(UserError, match=r"drawn: not enough variety of angle: .*; (tilt it|take more)"):
        calibrate(look_at(draw(0, 10)), "drawn")


@pytest.fixture
def folder(pictures: list[np.ndarray], tmp_path: Path) -> Path:
    (tmp_path / "board").mkdir()
    for number, image in enumerate(pictures):
        cv2.imwrite(str(tmp_path / "board" / f"{number:02d}.png"), image)
    return tmp_path / "board"


def test_the_command_writes_the_same_file_each_time(folder, tmp_path, skylight):
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    command = ("calibrate", folder, "--board", f"{COLUMNS}x{ROWS}", "--square", SQUARE, "--out")
    done = [skylight(*command, file) for file in files]
    assert done[0].returncode == 0, done[0].stderr
    assert "16 of 16 pictures used, 640x480" in done[0].stdout
    assert files[0].read_bytes() == files[1].read_bytes()
    content = json.loads(files[0].read_text())
    assert content["matrix"]["fx"] == pytest.approx(CAMERA.fx, rel=0.004)
    assert [frame["used"] for frame in content["frames"]] == [True] * 16


def test_the_command_reads_a_video_and_refuses_in_one_line(pictures, folder, tmp_path, skylight):
    video = cv2.VideoWriter(str(tmp_path / "board.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (640, 480))
    for image in pictures:
        for _ in range(3):
            video.write(image)
    video.release()
    options = ("--square", 25, "--out", tmp_path / "camera.json")
    done = skylight("calibrate", tmp_path / "board.avi", "--board", "9x6", "--every", 3, "--json", *options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["matrix"]["fx"] == pytest.approx(CAMERA.fx, rel=0.01)
    before = (tmp_path / "camera.json").read_bytes()
    assert_refused(skylight("calibrate", folder, "--board", "8x5", *options), "pictures can be used", "8x5")
    assert_refused(skylight("calibrate", folder, "--board", "9", *options), "--board 9", "for example 9x6")
    assert_refused(skylight("calibrate", tmp_path / "no", "--board", "9x6", *options), "no such file")
    assert (tmp_path / "camera.json").read_bytes() == before


def test_a_file_that_is_no_calibration_is_refused(tmp_path):
    path = tmp_path / "camera.json"
    good = json.loads(calibration_json(calibrate(look_at(draw(35)), "drawn")))
    for wrong, message in (
        ("{", "is no calibration"),
        (json.dumps({"schema": 9}), "schema is 9, this reads 1"),
        (json.dumps(good | {"matrix": good["matrix"] | {"fx": -5}}), "no camera has this matrix"),
        (json.dumps(good | {"distortion": {}}), "distortion.k1: None is no number"),
        (json.dumps(good | {"matrix": good["matrix"] | {"cx": True}}), "matrix.cx: True is no number"),
    ):
        path.write_text(wrong)
        with pytest.raises(UserError, match=message):
            read_camera(path)
    with pytest.raises(UserError, match="No such file"):
        read_camera(tmp_path / "missing.json")


def test_undistorting_is_the_inverse_of_opencvs_lens():
    rng = np.random.default_rng(0)
    plane = rng.uniform(-0.55, 0.55, (200, 2))
    matrix = np.array([[CAMERA.fx, 0, CAMERA.cx], [0, CAMERA.fy, CAMERA.cy], [0, 0, 1]])
    solid = np.column_stack([plane, np.ones(len(plane))])
    pixels = cv2.projectPoints(solid, np.zeros(3), np.zeros(3), matrix, np.array(CAMERA.distortion))[0][:, 0]
    assert np.abs(CAMERA.projected(plane) - pixels).max() < 1e-6
    assert np.abs(CAMERA.undistorted(pixels) - plane).max() < 1e-3


def test_where_the_lens_model_ends_there_is_no_ray():
    assert np.isnan(CAMERA.undistorted(np.array([[4000.0, 240.0]]))).all()


def test_a_stated_field_of_view_is_no_calibration():
    camera = camera_of_view(640, 480, 90.0)
    assert not camera.is_calibrated
    assert camera.undistorted(np.array([[640.0, 240.0]]))[0] == pytest.approx([1.0, 0.0])
