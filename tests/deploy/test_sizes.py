"""A hot drone changes to the smaller network of its bundle and back; every one of them is checked before it flies."""

from pathlib import Path

import numpy as np
import pytest
from colour_model import SIZE, colour_model
from made_frames import MadeSource
from signed_bundle import make_key, write_signed
from sysfs_stand_in import SysfsStandIn

from deploy.backends import Choice, open_networks
from deploy.bundle import Bundle
from deploy.errors import UserError
from deploy.events import Events
from deploy.frame import Observation
from deploy.health.part import Health
from deploy.health.settings import HealthSettings
from deploy.loop import Loop
from deploy.manifest import Model
from deploy.part import Part
from deploy.pictures import read_picture

SMALL = SIZE // 2
CHOICE = Choice("onnxruntime", threads=1)


def _bundle(folder: Path, small: bytes) -> Bundle:
    models = {
        Model("model.onnx", SIZE, SIZE, "fp32"): colour_model(),
        Model(f"model.{SMALL}.onnx", SMALL, SMALL, "fp32"): small,
    }
    return write_signed(folder / "colours-1", make_key(folder / "keys", "maker"), models)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return _bundle(tmp_path_factory.mktemp("sizes"), colour_model(SMALL))


def test_a_network_for_each_size_the_own_one_where_there_is_none(bundle):
    networks = open_networks(bundle, CHOICE)
    assert networks.sizes == ((SIZE, SIZE), (SMALL, SMALL))
    image = read_picture(bundle.root / "golden" / "frame-0.png")
    found = []
    for size, width in ((None, SIZE), ((SMALL, SMALL), SMALL), ((7, 7), SIZE)):
        vision = networks.at(size)
        assert (vision.size[0], vision.backend.width, vision.bundle.models[0].width) == (width, width, width)
        found.append(vision.look(image)[0])
    for detections in found:
        assert np.abs(detections.boxes - found[0].boxes).max() < 1
        assert len(detections.boxes) == len(found[0].boxes) > 0
    networks.close()


def test_golden_frames_are_asked_of_every_size(bundle):
    events = Events(stream=None)
    networks = open_networks(bundle, CHOICE)
    reports = networks.check_golden(events)
    assert [report.model for report in reports] == ["model.onnx", f"model.{SMALL}.onnx"]
    assert [event.kind for event in events.newest()] == ["golden", "golden.smaller"]
    assert "model.onnx in fp32: 4 golden frames, " in events.newest()[0].text


def test_smaller_size_that_departs_is_refused_before_it_flies(tmp_path):
    """Its golden detections are those of the right model; the one that runs takes red for green."""
    bundle = _bundle(tmp_path, colour_model(SMALL))
    networks = open_networks(bundle, CHOICE)
    networks._networks[1].backend.infer = lambda tensor: (  # type: ignore[method-assign]
        networks._networks[0].backend.infer(np.repeat(np.repeat(tensor[:, ::-1], 2, 2), 2, 3))
    )
    with pytest.raises(UserError, match=rf"frame-\d.png: class \d .* on model.{SMALL}.onnx; .*; do not fly it"):
        networks.check_golden()


def test_named_model_flies_alone(bundle):
    networks = open_networks(bundle, CHOICE._replace(model=f"model.{SMALL}.onnx"))
    assert networks.sizes == ((SMALL, SMALL),)
    assert networks.at((SIZE, SIZE)) is networks.own


def test_larger_size_than_the_default_is_not_loaded(bundle):
    assert open_networks(bundle.with_model(f"model.{SMALL}.onnx"), CHOICE).sizes == ((SMALL, SMALL),)


def test_one_that_does_not_load_leaves_nothing_open(bundle, monkeypatch):
    closed = []
    from deploy.backends import OnnxRuntimeBackend

    monkeypatch.setattr(OnnxRuntimeBackend, "close", lambda self: closed.append(self.width))
    broken = bundle._replace(models=(bundle.models[0], bundle.models[1]._replace(file="model.gone.onnx")))
    with pytest.raises(UserError, match=r"model\.gone\.onnx"):
        open_networks(broken, CHOICE)
    assert closed == [SIZE]


class _Heat(Part):
    """Looks at the sensors before every frame, ten seconds apart, and changes the bundle at some of them."""

    def __init__(self, health: Health, clock: list[float], changes: dict[int, Bundle]) -> None:
        self.health, self._clock, self._changes = health, clock, changes
        self.loop: Loop
        self.told: list[tuple[str, int]] = []

    def publish(self, observation: Observation) -> None:
        self.told.append((self.health.status()["rung"], observation.network[0]))
        bundle = self._changes.get(observation.frame.number)
        if bundle is not None:
            self.loop.change(open_networks(bundle, CHOICE))
        self._clock[0] += 10.0
        self.health.look()


def test_hot_drone_uses_the_sizes_of_the_bundle_that_flies_now(bundle, tmp_path):
    """One size flies, then two of them, then one again, while the board stays hot."""
    one, clock, events = bundle._replace(models=bundle.models[:1]), [1000.0], Events(stream=None)
    SysfsStandIn(tmp_path).heat("BCPU-therm", 120)
    networks = open_networks(one, CHOICE)
    settings = HealthSettings(tegrastats="none", low_disk=0, max_rate=1000)
    health = Health(settings, {}, networks.sizes, events, tmp_path, lambda: clock[0], is_watching=False)
    heat = _Heat(health, clock, {0: bundle, 5: one})
    heat.loop = Loop(MadeSource(range(8)), networks, [health, heat], events=events, orders=lambda: health.orders)
    heat.loop.run()
    heat.loop.close()
    small = f"small {SMALL}x{SMALL}"
    assert heat.told == [
        ("normal", SIZE), ("slow", SIZE), (small, SMALL), ("quiet", SMALL), ("degraded", SMALL), ("degraded", SMALL),
        ("degraded", SIZE), ("degraded", SIZE),
    ]  # fmt: skip
    assert "another bundle flies" not in str(events.newest())  # degraded stays degraded
