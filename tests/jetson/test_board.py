"""Boards: what the files say is complete and consistent, and a wrong file is refused with file, key and value."""

import ast
import json
from pathlib import Path
from typing import Any, get_args

import onnx
import pytest
import yaml

from deploy.errors import UserError
from deploy.loop import STAGES
from deploy.manifest import PRECISIONS
from jetson.board import Precision, Stage, board_names, read_board
from jetson.parser import read_parser

JETSON = Path(__file__).resolve().parents[2] / "jetson"
# Variants with one USB id; README_Autoflash.txt of L4T tells them apart by the board's own memory.
TOLD_BY_THE_BOARD = {"P3448-0002", "P3448-0003", "P3636-0001", "P3668-0001"}
TX2: dict[str, Any] = yaml.safe_load((JETSON / "boards/jetson-tx2.yaml").read_text())


def test_the_boards_that_are_shipped():
    jetsons = ("jetson-nano", "jetson-orin-nano", "jetson-tx2", "jetson-xavier-nx")
    assert board_names() == (*jetsons, "workstation", "workstation-rtx")
    for name in board_names():
        board = read_board(name)
        assert board.name == name
        assert set(board.precisions) | set(board.missing_precisions) == set(PRECISIONS)


def test_tx2_is_what_flies():
    board = read_board("jetson-tx2")
    assert (board.versions["l4t"], board.versions["tensorrt"]) == ("32.7.6", "8.2.1")
    assert (board.versions["python"], board.versions["numpy"], board.versions["opencv"]) == ("3.6.9", "1.19.4", "4.1.1")
    assert (board.compute_capability, board.opset[1], board.memory.gib, board.memory.shared) == ("6.2", 13, 8, True)
    assert not any(board.parser.reads(operator) for operator in ("Mod", "NonZero"))
    assert board.parser.restriction("Range").constant_if_float == ("start", "limit", "delta")
    assert board.module("0955:7C18").flash_target == "jetson-tx2-devkit"
    with pytest.raises(UserError, match=r"USB device 0955:7023: is no module of this board; in recovery: 0955:7c18"):
        board.module("0955:7023")


@pytest.mark.parametrize("name", ["jetson-tx2", "jetson-nano"])
def test_int8_without_hardware_says_why(name):
    with pytest.raises(UserError, match=rf"{name}: int8: its GPU .* no 8-bit arithmetic.*; allowed: fp32, fp16"):
        read_board(name).require_precision("int8")
    assert read_board("jetson-orin-nano").require_precision("int8") == "int8"
    with pytest.raises(UserError, match="precision fp8: unknown; allowed: fp32, fp16"):
        read_board(name).require_precision("fp8")


def test_modules_are_told_apart_by_what_they_show_in_recovery():
    """Where two show the same, both are flashed alike."""
    for name in board_names():
        board = read_board(name)
        for module in board.modules:
            found = board.module(module.recovery_usb)
            is_same = (found.flash_target, found.memory_gib) == (module.flash_target, module.memory_gib)
            assert is_same or module.part in TOLD_BY_THE_BOARD, module.part
        parts = [module.part for module in board.modules]
        assert len(parts) == len(set(parts))
    assert "P3767-0005" in [module.part for module in read_board("jetson-orin-nano").modules]


def test_what_could_not_be_found_out_is_none():
    orin, nano, tx2 = (read_board(f"jetson-{name}") for name in ("orin-nano", "nano", "tx2"))
    assert all(zone.slowdown is None for board in (orin, nano, tx2) for zone in board.thermal.zones)
    assert (orin.thermal.zones[0].name, orin.thermal.zones[0].shutdown) == ("cpu-thermal", 104.5)
    assert tx2.thermal.hardware_shutdown is None
    assert [mode.gpu_mhz for mode in orin.power_modes] == [612, 918, 1020, 408]


def test_peaks_follow_from_the_clocks():
    """Twice the cores by the highest clock; two transfers a cycle on the memory bus."""
    cores = {"jetson-nano": 128, "jetson-tx2": 256, "jetson-xavier-nx": 384, "jetson-orin-nano": 1024}
    bus = {"jetson-nano": 64, "jetson-tx2": 128, "jetson-xavier-nx": 128, "jetson-orin-nano": 128}
    for name in cores:
        board = read_board(name)
        assert board.peak is not None
        gpu = max(mode.gpu_mhz or 0 for mode in board.power_modes)
        memory = max(mode.emc_mhz or 0 for mode in board.power_modes)
        assert board.peak.tflops["fp32"] == pytest.approx(2 * cores[name] * gpu * 1e6 / 1e12, rel=0.01)
        assert board.peak.bandwidth == pytest.approx(2 * bus[name] / 8 * memory * 1e6 / 1e9, rel=0.01)


@pytest.mark.parametrize("name", board_names())
def test_what_the_drone_gets_is_json(name):
    content = read_board(name).for_drone()
    assert json.loads(json.dumps(content)) == content
    assert tuple(content["latency_budget_ms"]) == STAGES
    assert content["name"] == name


def test_stages_and_precisions_are_those_of_the_drone():
    assert get_args(Stage) == STAGES
    assert get_args(Precision) == PRECISIONS


@pytest.mark.parametrize("name", ["jetson-tx2", "jetson-nano", "jetson-xavier-nx", "jetson-orin-nano"])
def test_cameras_hand_out_the_newest_frame_only(name):
    board = read_board(name)
    values: dict[str, str | int] = {"sensor": 0, "device": "/dev/video1", "url": "rtsp://10.0.0.2:554/live"}
    for kind in board.cameras:
        pipeline = board.camera(kind, width=1280, height=720, fps=30, **values)
        assert "{" not in pipeline
        assert pipeline.endswith("appsink drop=true max-buffers=1 sync=false")
    assert "nvarguscamerasrc sensor-id=0" in board.camera("csi", width=1280, height=720, fps=30, sensor=0)
    assert "nvv4l2decoder" in board.camera("rtsp-h264", **values)


def test_camera_refuses_what_would_change_the_pipeline():
    board = read_board("jetson-tx2")
    with pytest.raises(UserError, match=r"camera rtsp-h264: url='rtsp://x ! filesink location=/etc/passwd'"):
        board.camera("rtsp-h264", url="rtsp://x ! filesink location=/etc/passwd")
    with pytest.raises(UserError, match="camera csi: width is missing; give sensor, width, height, fps"):
        board.camera("csi", sensor=0)
    with pytest.raises(UserError, match="camera firewire: unknown; allowed: csi, usb"):
        board.camera("firewire")


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"precisions": ["fp32", "fp8"]}, "precisions.1: found 'fp8'", "'fp32', 'fp16' or 'int8'"),
    ({"missing_precisions": {}}, "int8 belongs either to precisions", "missing_precisions"),
    ({"parser": "tensorrt-7"}, "parser: tensorrt-7 is unknown", "allowed: onnxruntime, tensorrt-10, tensorrt-8.2"),
    ({"cameras": {"csi": "src ! {widht} ! sink"}}, "{widht} is unknown", "allowed: sensor, device, url, width"),
    ({"memory": {"gib": -8, "shared": True}}, "memory.gib: found -8", "greater than 0"),
    ({"recovery": 1}, "unknown key recovery: 1", "allowed here: name, precisions, missing_precisions"),
    ({"memroy": {"gib": 8}, "memory": "gone"}, "unknown key memroy", "memory, "),
    ({"latency_budget_ms": {"nap": 3}}, "latency_budget_ms.nap", "'read', 'resize'"),
    ({"power_modes": [{"id": 0, "name": "A", "cpu": [], "gpu_mhz": None, "emc_mhz": None}]}, "is_default", "one"),
]


@pytest.mark.parametrize(("change", "found", "allowed"), WRONG, ids=[next(iter(change)) for change, _, _ in WRONG])
def test_wrong_file_is_refused_in_one_line(tmp_path, change, found, allowed):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in (TX2 | change).items() if value != "gone"}))
    with pytest.raises(UserError) as caught:
        read_board(path)
    assert str(caught.value).startswith(str(path))
    assert found in str(caught.value)
    assert allowed in str(caught.value)
    assert "\n" not in str(caught.value)


def test_board_of_ones_own_is_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(TX2 | {"name": "mine"}))
    assert read_board(path).name == "mine"
    with pytest.raises(UserError, match=r"board jetson-tx1: unknown; allowed: jetson-nano, .* or the path of"):
        read_board("jetson-tx1")
    with pytest.raises(UserError, match=r"none\.yaml: No such file"):
        read_board(tmp_path / "none.yaml")


@pytest.mark.parametrize(("name", "opset"), [("tensorrt-8.2", 13), ("tensorrt-10", 20)])
def test_parser_tables_account_for_every_operator_of_onnx(name, opset):
    parser = read_parser(name)
    defined = {
        schema.name
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.domain == "" and schema.since_version <= opset
    }
    assert parser.opset[1] == opset
    listed = {operator for operator in defined if parser.reads(operator)} | set(parser.unsupported)
    assert not defined - listed


def test_restrictions_speak_of_inputs_and_attributes_that_exist():
    for name in ("tensorrt-8.2", "tensorrt-10"):
        parser = read_parser(name)
        for operator, limits in parser.restrictions.items():
            schema = onnx.defs.get_schema(operator, max_inclusive_version=parser.opset[1])
            inputs = {value.name for value in schema.inputs}
            assert {*limits.constant, *limits.constant_if_float, *limits.zero} <= inputs, operator
            assert {*limits.allowed, *limits.without} <= set(schema.attributes), operator


def test_imports_nothing_of_the_pipeline():
    for path in JETSON.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.split(".")[0] in ("pipeline", "torch", "ultralytics")], path


def test_licence_is_that_of_what_flies():
    assert (JETSON / "LICENSE").read_bytes() == (JETSON.parent / "deploy/LICENSE").read_bytes()
