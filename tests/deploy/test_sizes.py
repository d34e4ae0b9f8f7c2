"""A hot drone changes to the smaller network of its bundle and back; every one of them is checked before it flies."""

from pathlib import Path

import numpy as np
import pytest
from colour_model import SIZE, colour_model
from signed_bundle import make_key, write_signed

from deploy.backends import Choice, open_networks
from deploy.bundle import Bundle
from deploy.errors import UserError
from deploy.events import Events
from deploy.manifest import Model
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
