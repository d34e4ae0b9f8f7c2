"""Every activation against its formula in Darknet's activations.h, written out for one number."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from pipeline.darknet.activations import ACTIVATIONS, activate

# Around every kink, and far out.
POINTS = sorted(
    {0.0, *(sign * x for sign in (-1, 1) for x in (1e-3, 0.3, 0.5, 1, 1.5, 2, 3, 4, 5, 5.999, 6, 7.25, 30))}
)


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _exponential(x: float) -> float:
    return math.exp(min(x, 0)) - 1


def _stair(x: float) -> float:
    whole = math.floor(x)
    return math.floor(x / 2) + (0 if whole % 2 == 0 else x - whole)


def _plse(x: float) -> float:
    if x < -4:
        return 0.01 * (x + 4)
    return 0.01 * (x - 4) + 1 if x > 4 else 0.125 * x + 0.5


def _lhtan(x: float) -> float:
    if x < 0:
        return 0.001 * x
    return 0.001 * (x - 1) + 1 if x > 1 else x


def _hard_mish(x: float) -> float:
    if x > 0:
        return x
    return x * x / 2 + x if x > -2 else 0


FORMULAS: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x,
    "logistic": _logistic,
    "loggy": lambda x: 2 * _logistic(x) - 1,
    "relu": lambda x: max(x, 0),
    "relu6": lambda x: min(max(x, 0), 6),
    "elu": lambda x: x if x >= 0 else _exponential(x),
    "selu": lambda x: 1.0507 * (x if x >= 0 else 1.6732 * _exponential(x)),
    "gelu": lambda x: 0.5 * x * (1 + math.tanh(0.797885 * x + 0.035677 * x**3)),
    "relie": lambda x: x if x > 0 else 0.01 * x,
    "ramp": lambda x: max(x, 0) + 0.1 * x,
    "leaky": lambda x: x if x > 0 else 0.1 * x,
    "revleaky": lambda x: x if x > 0 else 0.1 * x,
    "tanh": math.tanh,
    "plse": _plse,
    "stair": _stair,
    "hardtan": lambda x: min(max(x, -1), 1),
    "lhtan": _lhtan,
    "swish": lambda x: x * _logistic(x),
    "mish": lambda x: x * math.tanh(math.log(math.exp(x) + 1)),
    "hard_mish": _hard_mish,
}
OVER_CHANNELS = ("normalize_channels", "normalize_channels_softmax", "normalize_channels_softmax_maxval")


def test_every_activation_is_tested() -> None:
    assert sorted(ACTIVATIONS) == sorted([*FORMULAS, *OVER_CHANNELS])


@pytest.mark.parametrize("name", FORMULAS)
def test_activation_is_darknets_formula(name: str) -> None:
    found = activate(torch.tensor(POINTS), name)
    np.testing.assert_allclose(found, [FORMULAS[name](x) for x in POINTS], rtol=2e-6, atol=2e-6)


def _normalised(values: list[float], name: str) -> list[float]:
    if name == "normalize_channels":
        parts = [max(value, 0) for value in values]
    else:
        highest = max(values) if name.endswith("maxval") else 0
        parts = [math.exp(value - highest) for value in values]
    return [part / (sum(parts) + 1e-4) for part in parts]


@pytest.mark.parametrize("name", OVER_CHANNELS)
def test_normalising_activation_works_over_the_channels(name: str) -> None:
    x = torch.randn(2, 5, 3, 2, generator=torch.Generator().manual_seed(0))
    found = activate(x, name)
    for image, row, column in np.ndindex(2, 3, 2):
        expected = _normalised(x[image, :, row, column].tolist(), name)
        np.testing.assert_allclose(found[image, :, row, column], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradient_is_finite_and_that_of_the_values(name: str) -> None:
    """Against central differences, away from kinks and steps."""
    smooth = [x + 0.1 for x in POINTS if abs(x) < 10]
    x = torch.tensor(smooth, dtype=torch.float64).view(1, -1, 1, 1).requires_grad_()
    weights = torch.linspace(-1, 1, x.numel(), dtype=torch.float64).view_as(x)
    (gradient,) = torch.autograd.grad((activate(x, name) * weights).sum(), x)
    shifts = 1e-6 * torch.eye(x.numel(), dtype=torch.float64)[:, :, None, None]
    with torch.no_grad():
        ahead, behind = ((activate(x + sign * shifts, name) * weights).sum(dim=(1, 2, 3)) for sign in (1, -1))
    np.testing.assert_allclose(gradient.flatten(), (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "normalize_channels_softmax"])
def test_far_values_stay_finite(name: str) -> None:
    """normalize_channels_softmax overflows here as it does in Darknet; the _maxval one is the remedy."""
    x = torch.tensor([-1e4, -90.0, 90.0, 1e4]).view(1, 4, 1, 1).requires_grad_()
    y = activate(x, name)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert y.isfinite().all()
    assert gradient.isfinite().all()
