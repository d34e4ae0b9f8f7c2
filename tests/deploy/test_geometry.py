"""Targets put before a known camera are found where they were put: angles, distance, place, and how sure."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_board import CAMERA
from hypothesis import given
from hypothesis import settings as trial
from hypothesis import strategies as st

from deploy.camera import Camera
from deploy.errors import UserError
from deploy.frame import Track
from deploy.geometry import Aim, GeometrySettings, Sight, mounting

CLASSES = ("Arch", "Window")


def sight(tmp_path: Path, camera: Camera = CAMERA, **settings: Any) -> Sight:
    content = {
        "schema": 1,
        "image": {"width": camera.width, "height": camera.height},
        "matrix": {"fx": camera.fx, "fy": camera.fy, "cx": camera.cx, "cy": camera.cy},
        "matrix_error": {"fx": 0.005 * camera.fx, "fy": 0.005 * camera.fy, "cx": 1.0, "cy": 1.0},
        "distortion": dict(zip(("k1", "k2", "p1", "p2", "k3"), camera.distortion, strict=True)),
    }
    path = tmp_path / "camera.json"
    path.write_text(json.dumps(content))
    made = GeometrySettings(**({"calibration": str(path), "target_size": ("1.2x0.9",)} | settings))
    made.check()
    return Sight(made, CLASSES)


def seen(place: tuple[float, float, float], width: float = 1.2, height: float = 0.9, **changes: Any) -> Track:
    """The box of an upright target that faces the camera squarely, its middle at (x, y, z) metres before the camera."""
    x, y, z = place
    across = CAMERA.projected(np.array([[x - width / 2, y], [x + width / 2, y]]) / z)
    down = CAMERA.projected(np.array([[x, y - height / 2], [x, y + height / 2]]) / z)
    box = (across[0, 0], down[0, 1], across[1, 0], down[1, 1])
    return Track(1, box, (0.0, 0.0), 0.9, 0, 9, 0.0, (1.0, 1.0))._replace(**changes)


def aimed(sight: Sight, track: Track, size: tuple[int, int] = (640, 480)) -> Aim:
    aim = sight.aim(track, *size)
    assert aim is not None
    return aim


@pytest.fixture(scope="module")
def forward(tmp_path_factory: pytest.TempPathFactory) -> Sight:
    return sight(tmp_path_factory.mktemp("camera"), pitch=0.0)


@trial(deadline=None)
@given(st.floats(-0.25, 0.25), st.floats(-0.2, 0.2), st.floats(4, 10))
def test_a_target_is_found_where_it_was_put(forward, right, down, away):
    aim = aimed(forward, seen((right * away, down * away, away)))
    assert math.tan(aim.angle_x) == pytest.approx(right, abs=0.005)
    assert math.tan(aim.angle_y) == pytest.approx(down, abs=0.005)
    assert aim.position == pytest.approx((away, right * away, down * away), rel=0.02, abs=0.05), "x is forward"
    assert aim.distance == pytest.approx(away * math.hypot(1, right, down), rel=0.02)
    assert aim.ray == pytest.approx(np.array(aim.position) / aim.distance)
    assert aim.doubt == ""


def test_the_error_told_is_the_error_made(tmp_path):
    """Boxes, size of the target and focal length are drawn at random as the settings say they scatter."""
    rng = np.random.default_rng(7)
    ratios = []
    for _ in range(400):
        stretch = 1 + 0.03 * rng.standard_normal(2)
        track = seen((0.3, 0.2, 6.0), 1.2 * stretch[0], 0.9 * stretch[1])
        noise = rng.normal(0, 2 / math.sqrt(2), 4)  # each side of a box whose sizes scatter by 2 pixels
        track = track._replace(box=tuple(np.array(track.box) + noise), size_error=(2.0, 2.0))
        made = aimed(_scaled(1 + 0.005 * rng.standard_normal(), tmp_path), track)
        assert made.distance is not None
        assert made.distance_error is not None
        ratios.append((made.distance - 6 * math.hypot(1, 0.05, 0.2 / 6)) / made.distance_error)
    assert abs(np.mean(ratios)) < 0.25
    assert 0.7 < np.std(ratios) < 1.15, "sides that contradict each other widen the error"


def _scaled(factor: float, tmp_path: Path) -> Sight:
    return sight(tmp_path, CAMERA._replace(fx=CAMERA.fx * factor, fy=CAMERA.fy * factor), pitch=0.0)


def test_sides_that_contradict_each_other_widen_the_error(forward):
    fits, slanted = (aimed(forward, seen((0, 0, 6.0), width)) for width in (1.2, 0.7))
    assert fits.distance_error is not None
    assert slanted.distance_error is not None
    assert slanted.distance_error > 5 * fits.distance_error
    assert slanted.position is None
    assert "distance known to" in slanted.doubt


@pytest.mark.parametrize(
    ("angles", "looks", "top"),
    [
        ((0, 0, 0), (1, 0, 0), (0, 0, -1)),
        ((0, -90, 0), (0, 0, 1), (1, 0, 0)),
        ((0, 0, 90), (0, 1, 0), (0, 0, -1)),
        ((90, 0, 0), (1, 0, 0), (0, 1, 0)),
        ((0, -30, 0), (math.cos(math.pi / 6), 0, 0.5), (0.5, 0, -math.cos(math.pi / 6))),
        ((0, -90, 90), (0, 0, 1), (0, 1, 0)),
    ],
)
def test_a_mounted_camera_looks_where_it_says(angles, looks, top):
    turn = mounting(*angles)
    assert turn @ [0, 0, 1] == pytest.approx(looks, abs=1e-12)
    assert turn @ [0, -1, 0] == pytest.approx(top, abs=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)


def test_a_tilted_camera_gives_the_place_in_the_body(tmp_path):
    aim = aimed(sight(tmp_path, pitch=-60.0), seen((0.0, 0.0, 8.0)))
    assert aim.position == pytest.approx((4.0, 0.0, 8 * math.sin(math.radians(60))), rel=0.01, abs=0.05)


def test_sizes_by_class_and_of_one_side(tmp_path):
    made = sight(tmp_path, pitch=0.0, target_size=("Arch = 1.2 x -", "2.4x1.8"))
    assert aimed(made, seen((0, 0, 6.0))).distance == pytest.approx(6, rel=0.01)
    assert aimed(made, seen((0, 0, 6.0), class_index=1)).distance == pytest.approx(12, rel=0.01)
    unknown = aimed(sight(tmp_path, target_size=("Window=1x1",)), seen((0, 0, 6.0)))
    assert (unknown.distance, unknown.position, unknown.doubt) == (None, None, "size of the target not stated")


def test_what_the_edge_cuts_off_has_no_place(forward):
    left, top, right, bottom = seen((0, 0, 6.0)).box
    shifted = (0.0, top, right - left - 30, bottom)  # 30 of its pixels are outside
    aim = aimed(forward, seen((0, 0, 6.0), box=shifted))
    assert aim.position is None
    assert aim.doubt == "cut off by the edge of the picture"
    assert aim.distance == pytest.approx(6, rel=0.15), "its height is whole"


def test_pictures_of_another_size_have_no_place(forward):
    left, top, right, bottom = seen((0.5, 0, 6.0)).box
    half = aimed(forward, seen((0, 0, 1), box=(left / 2, top / 2, right / 2, bottom / 2)), (320, 240))
    assert math.tan(half.angle_x) == pytest.approx(0.5 / 6, abs=0.003)
    assert half.position is None
    assert half.doubt == "not calibrated at this size of picture"
    assert aimed(forward, seen((0.5, 0, 6.0))).position is not None, "and back"


def test_small_boxes_that_jump_have_no_place(forward):
    aim = aimed(forward, seen((0, 0, 9.0), 0.06, 0.06, size_error=(3.0, 3.0)))
    assert aim.position is None
    assert aim.distance is not None


def test_outside_of_the_lens_there_is_no_aim(forward):
    assert forward.aim(seen((0, 0, 5.0), box=(3000.0, 100.0, 5000.0, 200.0)), 640, 480) is None


def test_settings_that_cannot_be_are_refused(tmp_path):
    for settings, message in (
        ({"target_size": ("big",)}, "target_size=big: is no size; write metres"),
        ({"target_size": ("0x1",)}, "is no size"),
        ({"target_size": ("1..2x1",)}, "is no size"),
        ({"target_size": ("Door=1x1",)}, "target_size=Door=...: no such class; allowed: Arch, Window"),
        ({"field_of_view": 180.0}, "field_of_view=180.0: out of range"),
        ({"pitch": -200.0}, "pitch=-200.0: out of range"),
        ({"calibration": None}, "give a calibration"),
        ({"calibration": "/nowhere/camera.json"}, "No such file"),
    ):
        with pytest.raises(UserError, match=message):
            sight(tmp_path, **settings)
