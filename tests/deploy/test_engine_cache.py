"""Which engine is used again, which is built again, and what is on disk after something went wrong."""

import json
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
import tensorrt_8_2_stand_in as eight
import tensorrt_10_stand_in as ten
from cuda_stand_in import CudaStandIn
from engine_builds import MIB, asked_of, build, convolutions, files_in
from stand_in_engine import read_plan

from deploy import engine_cache
from deploy.errors import UserError
from deploy.tensorrt import TensorRt
from deploy.tensorrt_backend import TensorRtBackend


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(convolutions())
    return tmp_path / "model.onnx"


def test_second_build_is_none(model):
    first = build(model)
    before = first.path.read_bytes()
    first.path.touch()
    second = build(model)
    assert (first.is_new, second.is_new) == (True, False)
    assert second._replace(is_new=True) == first
    assert second.path.read_bytes() == before


def _changed_model(model: Path, **_: Any) -> dict[str, Any]:
    changed = onnx.load(model)
    changed.producer_name = "another"
    model.write_bytes(changed.SerializeToString())
    return {}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_changed_model, "onnx_sha256 was "),
        (lambda *_: {"cuda": CudaStandIn(name="Orin")}, "gpu was NVIDIA Tegra X2, is Orin"),
        (lambda *_: {"cuda": CudaStandIn(capability="8.7")}, "compute_capability was 6.2, is 8.7"),
        (lambda *_: {"module": ten}, "version was 8.2.1.8, is 10.3.0"),
        (lambda *_: {"workspace": 64 * MIB}, "options was "),
        (lambda *_: {"l4t": "35.4.1"}, "l4t was none, is 35.4.1"),
        (lambda *_: {"builder": 2}, "builder was 1, is 2"),
    ],
    ids=["model", "gpu", "capability", "version", "options", "l4t", "builder"],
)
def test_stale_or_foreign_engine_is_built_again(model, monkeypatch, change, reason):
    from deploy import engine

    first = build(model)
    options = change(model)
    release = options.pop("l4t", "")
    monkeypatch.setattr(engine, "l4t_release", lambda: release)
    monkeypatch.setattr(engine, "BUILDER", options.pop("builder", engine.BUILDER))
    said: list[str] = []
    second = build(model, progress=lambda what, *_: said.append(what), **options)
    assert second.is_new
    assert second.facts["built_because"].startswith(reason)
    assert said[0].startswith(f"model-fp16.engine: {reason}")
    assert second.path == first.path
    assert not build(model, **options).is_new


def _cut(engine: Path) -> None:
    engine.write_bytes(engine.read_bytes()[:-1])


def _flip(engine: Path) -> None:
    content = bytearray(engine.read_bytes())
    content[len(content) // 2] ^= 1
    engine.write_bytes(content)


def _break_note(engine: Path) -> None:
    engine_cache.note_of(engine).write_text('{"schema": 1')


def _no_note(engine: Path) -> None:
    engine_cache.note_of(engine).unlink()


def _other_schema(engine: Path) -> None:
    note = engine_cache.note_of(engine)
    note.write_text(json.dumps(json.loads(note.read_text()) | {"schema": 2}))


@pytest.mark.parametrize("damage", [_cut, _flip, _break_note, _no_note, _other_schema])
def test_damaged_engine_is_built_again(model, damage):
    first = build(model)
    before = read_plan(first.path.read_bytes())[1]
    damage(first.path)
    second = build(model)
    assert second.is_new
    assert read_plan(second.path.read_bytes())[1] == before
    assert not build(model).is_new


@pytest.mark.parametrize("damage", [_cut, _flip])
def test_engine_that_changed_after_the_check_is_not_loaded(model, damage):
    engine = build(model)
    damage(engine.path)
    with pytest.raises(UserError, match=r"model-fp16\.engine: is cut off or changed"):
        TensorRtBackend(engine, TensorRt(eight, "tensorrt"), CudaStandIn())  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"was built by tensorrt 8\.2\.1\.8, here is TensorRT 10\.3\.0"):
        TensorRtBackend(engine, TensorRt(ten, "tensorrt"), CudaStandIn())  # type: ignore[arg-type]


def test_timing_cache_is_kept_and_a_foreign_one_is_not_used(model):
    assert asked_of(build(model))["timing"] == ""
    cache = model.parent / "engines" / "timing-tensorrt-8.2.1.8.cache"
    assert cache.read_bytes() == b"times of 8.2"
    assert asked_of(build(model, workspace=64 * MIB))["timing"] == "times of 8.2"
    cache.write_bytes(b"times of another machine")
    assert asked_of(build(model, workspace=65 * MIB))["timing"] == ""
    assert cache.read_bytes() == b"times of 8.2"


def test_full_disk_leaves_the_older_engine_and_nothing_half_written(model):
    before = build(model).path.read_bytes()
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, old[1]))
    try:
        with pytest.raises(UserError, match=r"\.cache: File too large|engine: File too large; free some space"):
            build(model, workspace=64 * MIB)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert (model.parent / "engines" / "model-fp16.engine").read_bytes() == before
    assert len(files_in(model.parent)) == 4  # model, engine, note, timing cache


def test_full_disk_is_noticed_before_the_build(model, monkeypatch):
    monkeypatch.setattr(engine_cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=MIB))
    with pytest.raises(UserError, match="1 MiB free, an engine may need 16 MiB"):
        build(model)


def test_l4t_release_is_read(tmp_path):
    line = "# R32 (release), REVISION: 7.6, GCID: 38171779, BOARD: t186ref, EABI: aarch64, DATE: Tue Nov  5 2024\n"
    (tmp_path / "release").write_text(line)
    assert engine_cache.l4t_release(tmp_path / "release") == "32.7.6"
    assert engine_cache.l4t_release(tmp_path / "nothing") == ""
