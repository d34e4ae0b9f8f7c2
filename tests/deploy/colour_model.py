"""A bundle whose detections follow from the picture: each of 4 x 4 cells scores as red and as green as it is."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

from deploy.bundle import Bundle, write_bundle

SIZE = 64
CELL = SIZE // 4


def colour_model(size: int = SIZE, outputs: tuple[str, str] = ("boxes", "scores"), first_left: float = 0.0) -> bytes:
    """The ONNX file; `first_left` is the left side of the first cell's box."""
    cell = size // 4
    corners = np.array([(x, y) for y in range(0, size, cell) for x in range(0, size, cell)], np.float32)
    boxes = np.concatenate([corners, corners + cell], axis=1)[None]
    boxes[0, 0, 0] = first_left
    values = {
        "channels": np.array([0, 1], np.int64),
        "shape": np.array([1, 2, 16], np.int64),
        "cells": boxes,
        "nothing": np.zeros(1, np.float32),
    }
    nodes = [
        helper.make_node("AveragePool", ["images"], ["means"], kernel_shape=[cell, cell], strides=[cell, cell]),
        helper.make_node("Gather", ["means", "channels"], ["red_green"], axis=1),
        helper.make_node("Reshape", ["red_green", "shape"], ["flat"]),
        helper.make_node("Transpose", ["flat"], [outputs[1]], perm=[0, 2, 1]),
        # OpenCV takes no output that is a constant.
        helper.make_node("Concat", [outputs[1], outputs[1]], ["four"], axis=2),
        helper.make_node("Mul", ["four", "nothing"], ["zeros"]),
        helper.make_node("Add", ["zeros", "cells"], [outputs[0]]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, size, size])],
        [
            helper.make_tensor_value_info(outputs[0], TensorProto.FLOAT, [1, 16, 4]),
            helper.make_tensor_value_info(outputs[1], TensorProto.FLOAT, [1, 16, 2]),
        ],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    checker.check_model(model)
    return model.SerializeToString()


def write_colour_bundle(folder: Path, model: bytes | None = None) -> Bundle:
    """Write the bundle `folder`, with another model if one is given."""
    manifest = {
        "name": "colours", "version": "1", "classes": ["red", "green"],
        "models": [{"file": "model.onnx", "width": SIZE, "height": SIZE, "precision": "fp32"}],
        "resize_mode": "stretch", "colour_order": "rgb", "score_threshold": 0.6, "nms_threshold": 0.45,
        "anchors": [], "masks": [], "board": {"name": "workstation"}, "provenance": {}, "parity": {},
    }  # fmt: skip
    return write_bundle(folder, {"model.onnx": model or colour_model()}, manifest)


def square(column: int, row: int, colour: tuple[int, int, int], width: int = 320, height: int = 240) -> np.ndarray:
    """A dark picture, (height, width, 3) uint8 BGR, with one cell of the 4 x 4 filled; `colour` is RGB."""
    image = np.full((height, width, 3), 20, np.uint8)
    x, y = column * width // 4, row * height // 4
    image[y : y + height // 4, x : x + width // 4] = colour[::-1]
    return image
