"""Lint against a parser of NVIDIA's: what TensorRT-RTX's refuses among ONNX's own test models, lint refuses too.

It is a newer parser than the one on any board here, so that lint may refuse more than it does.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import onnx
import pytest
from onnx import helper

from jetson.board import read_board
from pipeline.errors import UserError
from pipeline.export.lint import lint

trt = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")

LOGGER = trt.Logger(trt.Logger.INTERNAL_ERROR)  # kept: NVIDIA's library goes on using the first one it is given
# Operators that TensorRT has by plugins, which TensorRT-RTX lacks.
PLUGINS = {"DeformConv", "RoiAlign"}
# What follows from shapes and values that a graph does not hold, or is an error of this very parser.
UNSEEN = {"Celu", "MatMul", "Mod", "Range", "Resize", "ScatterElements"}


def _single_operator_models(opset: int) -> Iterator[tuple[str, bytes]]:
    """Models of one node of the default operator set, from the tests that ONNX has for backends."""
    from onnx.backend.test.case.node import collect_testcases

    for case in collect_testcases(None):
        if case.model is None or len(case.model.graph.node) != 1 or case.model.graph.node[0].domain:
            continue
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        version = max(entry.version for entry in model.opset_import)
        del model.opset_import[:]
        model.opset_import.append(helper.make_opsetid("", min(version, opset)))
        model.ir_version = 9
        try:
            onnx.checker.check_model(model)
        except onnx.checker.ValidationError:
            continue  # newer than this operator set
        yield model.graph.node[0].op_type, model.SerializeToString()


def _is_parsed(builder: Any, model: bytes) -> bool:
    network = builder.create_network(0)
    return bool(trt.OnnxParser(network, LOGGER).parse(model))


def _is_accepted(model: bytes) -> bool:
    try:
        return all(finding.severity != "error" for finding in lint(model, read_board("jetson-orin-nano")))
    except UserError:
        return False


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_the_real_parser_refuses_is_refused_by_lint():
    builder = trt.Builder(LOGGER)
    counts: Counter[tuple[bool, bool]] = Counter()
    missed = defaultdict(list)
    for operator, model in _single_operator_models(20):
        parsed, accepted = _is_parsed(builder, model), _is_accepted(model)
        counts[parsed, accepted] += 1
        if accepted and not parsed:
            missed[operator].append(parsed)
    print({f"parsed {key[0]}, accepted {key[1]}": value for key, value in counts.items()})
    assert counts[True, True] > 400
    assert counts[False, False] > 500
    assert set(missed) <= PLUGINS | UNSEEN, {operator: len(found) for operator, found in missed.items()}
