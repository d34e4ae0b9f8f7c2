"""What code for tensors shares, whatever it computes."""

import functools
from typing import Any

import torch
from torch import Tensor

__all__ = ["constant"]


def constant(values: tuple[Any, ...], like: Tensor) -> Tensor:
    """A tensor of these numbers, nested as its shape, with type and device of `like`.

    Copied there once, so that a graph can be captured.
    """
    return _constant(values, like.dtype, like.device)


@functools.cache
def _constant(values: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)
