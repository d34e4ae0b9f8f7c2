"""Darknet's activation functions (activations.h) by their name in a cfg."""

import torch
import torch.nn.functional as functional
from torch import Tensor

__all__ = ["ACTIVATIONS", "activate"]

# Names that Darknet's activations.c reads and the cfg files of its two main forks use.
ACTIVATIONS = (
    *("linear", "logistic", "loggy", "relu", "relu6", "elu", "selu", "gelu", "relie", "ramp", "leaky", "revleaky"),
    *("tanh", "plse", "stair", "hardtan", "lhtan", "swish", "mish", "hard_mish"),
    *("normalize_channels", "normalize_channels_softmax", "normalize_channels_softmax_maxval"),
)


def activate(x: Tensor, name: str) -> Tensor:
    """Apply one of `ACTIVATIONS` to every value of (batch, channels, ...); some normalise over the channels."""
    match name:
        case "linear":
            return x
        case "leaky" | "revleaky":
            return functional.leaky_relu(x, 0.1)
        case "ramp":
            return functional.relu(x) + 0.1 * x
        case "logistic":
            return x.sigmoid()
        case "loggy":
            return 2 * x.sigmoid() - 1
        case "relu":
            return functional.relu(x)
        case "relu6":
            return functional.relu6(x)
        case "elu":
            return functional.elu(x)
        case "selu":  # Darknet's constants have four digits
            return torch.where(x >= 0, 1.0507 * x, 1.0507 * 1.6732 * (x.clamp(max=0).exp() - 1))
        case "gelu":
            return 0.5 * x * (1 + torch.tanh(0.797885 * x + 0.035677 * x**3))
        case "relie":
            return functional.leaky_relu(x, 0.01)
        case "tanh":
            return x.tanh()
        case "plse":
            return torch.where(x < -4, 0.01 * (x + 4), torch.where(x > 4, 0.01 * (x - 4) + 1, 0.125 * x + 0.5))
        case "stair":
            floor = x.floor()
            half = (x / 2).floor()
            return torch.where(floor % 2 == 0, half, (x - floor) + half)
        case "hardtan":
            return x.clamp(-1, 1)
        case "lhtan":
            return torch.where(x < 0, 0.001 * x, torch.where(x > 1, 0.001 * (x - 1) + 1, x))
        case "swish":
            return functional.silu(x)
        case "mish":
            return functional.mish(x)
        case "hard_mish":
            return torch.where(x > 0, x, torch.where(x > -2, x * x / 2 + x, torch.zeros_like(x)))
        case "normalize_channels":
            positive = functional.relu(x)
            return positive / (positive.sum(dim=1, keepdim=True) + 1e-4)
        case "normalize_channels_softmax":
            exponential = x.exp()
            return exponential / (exponential.sum(dim=1, keepdim=True) + 1e-4)
        case "normalize_channels_softmax_maxval":
            exponential = (x - x.amax(dim=1, keepdim=True)).exp()
            return exponential / (exponential.sum(dim=1, keepdim=True) + 1e-4)
    raise ValueError(f"no such activation: {name}")
