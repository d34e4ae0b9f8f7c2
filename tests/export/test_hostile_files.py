"""Files that are no ONNX, damaged, or made to do harm: refused in one line, without taking memory or time."""

import random
import resource
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from drawn import SMALL_CFG
from onnx import helper
from onnx_models import made, node

from jetson.board import read_board
from pipeline.darknet import DarknetNetwork, adapted, read_cfg
from pipeline.errors import UserError
from pipeline.export.lint import lint
from pipeline.export.onnx import export_onnx
from pipeline.export.scan import ScanLimits, read_checked
from pipeline.networks.darknet import DarknetDetector

TX2 = read_board("jetson-tx2")
ONES = np.ones(1, np.float32)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A network with two heads in 95 kB."""
    cfg = tmp_path_factory.mktemp("small") / "small.cfg"
    cfg.write_text(SMALL_CFG)
    return export_onnx(DarknetDetector(DarknetNetwork(adapted(read_cfg(cfg), 64, 64, 1)))).model


NO_ONNX = {
    "empty": b"",
    "text": b"not an ONNX file at all\n",
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(64),
    "zeros": bytes(1000),
    "other message": helper.make_tensor("t", 1, [1], [1.0]).SerializeToString(),
}


@pytest.mark.parametrize("content", NO_ONNX.values(), ids=NO_ONNX)
def test_what_is_no_onnx_is_refused_in_one_line(content):
    with pytest.raises(UserError) as caught:
        lint(content, TX2)
    assert "\n" not in str(caught.value)


def _refusal(source: bytes | Path) -> str | None:
    """What a file is refused with; None if it is not. Bytes are only read, a file is linted."""
    try:
        read_checked(source) if isinstance(source, bytes) else lint(source, TX2)
    except UserError as error:
        return str(error)
    return None


def test_damaged_files_are_refused_or_linted(small):
    """Hundreds of changed bytes and cut ends: never another exception than a refusal."""
    rng = random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(small)
        if rng.random() < 0.3:
            del damaged[rng.randrange(len(damaged)) :]
        else:
            damaged[rng.randrange(9000)] = rng.randrange(256)
        said = _refusal(bytes(damaged))
        refused += said is not None
        assert "\n" not in (said or "")
    print("refused", refused)
    assert refused > 100


@pytest.mark.parametrize("seed", range(6))
def test_damaged_file_does_not_end_the_process(small, tmp_path, seed):
    """Some changes make onnx itself abort; that happens in a process of its own."""
    rng = random.Random(seed)
    damaged = bytearray(small)
    for _ in range(3):
        damaged[rng.randrange(9000)] = rng.randrange(256)
    (tmp_path / "damaged.onnx").write_bytes(damaged)
    assert "\n" not in (_refusal(tmp_path / "damaged.onnx") or "")


def test_code_beside_a_model_is_not_run(small, tmp_path, monkeypatch):
    """Lint is called in the folder of a stranger's model, where anything may lie."""
    (tmp_path / "model.onnx").write_bytes(small)
    (tmp_path / "pipeline").mkdir()
    for name in ("onnx.py", "resource.py", "pipeline/__init__.py"):
        (tmp_path / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    assert lint(Path("model.onnx"), TX2) == ()
    assert not (tmp_path / "ran").exists()


def test_tensor_that_declares_more_than_it_holds():
    model = onnx.load_model_from_string(made([node("Add", "x,c")], {"c": ONES}))
    for dims in ([2**62, 2**62], [-1], [1] * 100, [2]):
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)
        with pytest.raises(UserError, match="model: tensor c: "):
            lint(model.SerializeToString(), TX2)


def _length(number: int) -> bytes:
    """A protobuf varint."""
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def test_bombs_take_neither_memory_nor_time(tmp_path):
    """Millions of empty nodes, messages without end, a file of a terabyte that takes no room, constants of exabytes."""
    nodes = b"\x0a\x00" * 5_000_000
    bombs = {"nodes": b"\x3a" + _length(len(nodes)) + nodes}
    nested = b""
    for _ in range(3000):  # a graph in an attribute, that in a node, that in a graph
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            nested = tag + _length(len(nested)) + nested
    bombs["nested"] = b"\x3a" + _length(len(nested)) + nested
    size = np.array([2**40, 2**20])
    bombs["constant"] = made([node("ConstantOfShape", "s")], {"s": size}, {"x": (1, (1, 3))})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    for name, content in bombs.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        if name == "constant":
            lint(path, TX2)
            continue
        with pytest.raises(UserError, match=r"holds more than 2000000 values|nests messages more than 32 deep"):
            lint(path, TX2)
    with (tmp_path / "sparse.onnx").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match="has 1099511627776 bytes"):
        lint(tmp_path / "sparse.onnx", TX2)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("seconds", time.monotonic() - started, "MiB", (after - before) / 1024)
    assert after - before < 100 * 1024


def test_scan_limits_are_those_that_are_said(small):
    with pytest.raises(UserError, match=r"has \d+ bytes; an ONNX file has at most 1000"):
        read_checked(small, ScanLimits(size=1000))
    with pytest.raises(UserError, match="nests messages more than 3 deep"):
        read_checked(small, ScanLimits(depth=3))
    with pytest.raises(UserError, match="holds more than 50 values"):
        read_checked(small, ScanLimits(fields=50))
    with pytest.raises(UserError, match="holds a text of"):
        read_checked(small, ScanLimits(text=4))
