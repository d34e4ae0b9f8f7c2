"""A model keeps the contract of the bundle, or it is refused before the first frame."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from colour_model import SIZE, colour_model

from deploy.backends import OnnxRuntimeBackend
from deploy.decode import select
from deploy.errors import UserError


def _file(tmp_path, model):
    (tmp_path / "model.onnx").write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return tmp_path / "model.onnx"


def test_model_says_its_size_and_gives_both_outputs(tmp_path):
    backend = OnnxRuntimeBackend(_file(tmp_path, colour_model()), threads=1)
    assert (backend.width, backend.height, backend.classes) == (SIZE, SIZE, 2)
    boxes, scores = backend.infer(np.full((1, 3, SIZE, SIZE), 0.25, np.float32))
    assert (boxes.shape, boxes.dtype) == ((16, 4), np.float32)
    assert (scores.shape, scores.dtype) == ((16, 2), np.float32)
    assert scores == pytest.approx(0.25)


def _edited(change: Callable[[onnx.GraphProto], None]) -> onnx.ModelProto:
    model = onnx.load_from_string(colour_model())
    change(model.graph)
    return model


def _dynamic(graph):
    graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def _half(graph):
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for value in graph.initializer:
        if value.data_type == onnx.TensorProto.FLOAT:
            value.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(value).astype("f2"), value.name))


def _without_boxes(graph):
    del graph.output[0]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"no model", "cannot load it"),
        (colour_model(outputs=("boxes", "logits")), "logits.*needs float images"),
        (_edited(_dynamic), "height.*all static"),
        (_edited(_half), "float16.*needs float images"),
        (_edited(_without_boxes), "needs float images"),
    ],
)
def test_model_that_breaks_the_contract_is_refused(tmp_path, model, message):
    with pytest.raises(UserError, match=rf"model\.onnx: .*{message}") as refusal:
        OnnxRuntimeBackend(_file(tmp_path, model))
    assert len(str(refusal.value).splitlines()) == 1


def test_missing_model_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"model\.onnx"):
        OnnxRuntimeBackend(tmp_path / "model.onnx")


def test_score_counts_from_just_above_the_threshold():
    scores = np.array([[0.25], [np.nextafter(np.float32(0.25), np.float32(1))], [0.2499]], np.float32)
    boxes = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert select(boxes, scores, 0.25)[0].tolist() == [[4, 5, 6, 7]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_never_a_detection(value):
    boxes = np.array([[0, 0, 9, 9], [0, value, 9, 9], [0, 0, 9, 9]], np.float32)
    scores = np.array([[0.9], [0.9], [value]], np.float32)
    found, values, _ = select(boxes, scores, 0.5)
    assert found.tolist() == [[0, 0, 9, 9]]
    assert values.tolist() == pytest.approx([0.9])
