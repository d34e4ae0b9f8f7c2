"""Every activation against its line of activations.h, value by value."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from pipeline.darknet.activations import ACTIVATIONS, activate

VALUES = (-30.0, -6.5, -4.0, -3.0, -2.0, -1.5, -1.0, -0.3, 0.0, 0.2, 0.5, 1.0, 1.7, 2.0, 3.4, 4.0, 5.0, 6.2, 25.0)


def _stair(x: float) -> float:
    n = math.floor(x)
    return math.floor(x / 2) if n % 2 == 0 else (x - n) + math.floor(x / 2)


def _plse(x: float) -> float:
    if x < -4:
        return 0.01 * (x + 4)
    return 0.01 * (x - 4) + 1 if x > 4 else 0.125 * x + 0.5


def _lhtan(x: float) -> float:
    if x < 0:
        return 0.001 * x
    return 0.001 * (x - 1) + 1 if x > 1 else x


def _mish(x: float) -> float:
    softplus = x if x > 20 else math.exp(x) if x < -20 else math.log(math.exp(x) + 1)
    return x * (2 / (1 + math.exp(-2 * softplus)) - 1)


def _hard_mish(x: float) -> float:
    if x > 0:
        return x
    return x * x / 2 + x if x > -2 else 0.0


FORMULAS: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x,
    "logistic": lambda x: 1 / (1 + math.exp(-x)),
    "loggy": lambda x: 2 / (1 + math.exp(-x)) - 1,
    "relu": lambda x: x * (x > 0),
    "relu6": lambda x: min(max(x, 0), 6),
    "elu": lambda x: (x >= 0) * x + (x < 0) * (math.exp(x) - 1),
    "selu": lambda x: (x >= 0) * 1.0507 * x + (x < 0) * 1.0507 * 1.6732 * (math.exp(x) - 1),
    "gelu": lambda x: 0.5 * x * (1 + math.tanh(0.797885 * x + 0.035677 * x**3)),
    "relie": lambda x: x if x > 0 else 0.01 * x,
    "ramp": lambda x: x * (x > 0) + 0.1 * x,
    "leaky": lambda x: x if x > 0 else 0.1 * x,
    "revleaky": lambda x: x if x > 0 else 0.1 * x,
    "tanh": lambda x: 2 / (1 + math.exp(-2 * x)) - 1,
    "plse": _plse,
    "stair": _stair,
    "hardtan": lambda x: min(max(x, -1), 1),
    "lhtan": _lhtan,
    "swish": lambda x: x / (1 + math.exp(-x)),
    "mish": _mish,
    "hard_mish": _hard_mish,
}
OVER_CHANNELS = ("normalize_channels", "normalize_channels_softmax", "normalize_channels_softmax_maxval")


def test_every_activation_is_tested() -> None:
    assert set(ACTIVATIONS) == {*FORMULAS, *OVER_CHANNELS}


@pytest.mark.parametrize("name", FORMULAS)
def test_activation_is_the_formula_of_activations_h(name: str) -> None:
    expected = [FORMULAS[name](x) for x in VALUES]
    found = activate(torch.tensor(VALUES), name).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def _normalize_one_place(name: str, values: list[float]) -> list[float]:
    """activations.c activate_array_normalize_channels and its softmax form, for the channels of one pixel."""
    if name == "normalize_channels":
        total = 0.0001 + sum(value for value in values if value > 0)
        return [value / total if value > 0 else 0.0 for value in values]
    largest = max(values) if name.endswith("maxval") else 0.0
    total = 0.0001 + sum(math.exp(value - largest) for value in values)
    return [math.exp(value - largest) / total for value in values]


@pytest.mark.parametrize("name", OVER_CHANNELS)
def test_normalising_activation_works_on_the_channels_of_one_pixel(name: str) -> None:
    x = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    found = activate(x, name)
    for image, row, column in np.ndindex(2, 3, 4):
        expected = _normalize_one_place(name, x[image, :, row, column].tolist())
        np.testing.assert_allclose(found[image, :, row, column].numpy(), expected, rtol=1e-5)
