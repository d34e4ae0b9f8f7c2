"""Batch norm with Darknet's numbers, in one process and over several that share a batch. Knows no layers."""

import math
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as functional
from torch import Tensor, nn

from pipeline.errors import UserError

__all__ = ["BATCH_NORM_EPS", "BatchNorm"]

# blas.c normalize_cpu: (x - mean) / sqrt(variance + .00001f)
BATCH_NORM_EPS = 1e-5


class BatchNorm(nn.Module):
    """Batch norm as Darknet's CPU and CUDA kernels compute it: the batch variance divides by n - 1.

    Attributes:
        bias, scale: learned, (channels,).
        rolling_mean, rolling_variance: used in eval mode, (channels,).
        momentum: weight of the newest batch; 0.1 in AlexeyAB's CPU build, 0.01 in its CUDA build and the original.
        is_synchronised: in training, take the statistics of all processes that share a batch (torch.distributed).
    """

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.is_synchronised = False
        self.bias = nn.Parameter(torch.zeros(channels))
        self.scale = nn.Parameter(torch.ones(channels))
        self.rolling_mean: Tensor
        self.rolling_variance: Tensor
        self.register_buffer("rolling_mean", torch.zeros(channels))
        self.register_buffer("rolling_variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (batch, channels, ...) with the batch's statistics in training, the rolling ones otherwise."""
        if not self.training:
            return functional.batch_norm(
                x, self.rolling_mean, self.rolling_variance, self.scale, self.bias, False, 0.0, BATCH_NORM_EPS
            )
        norm = _SynchronisedNorm if self.is_synchronised else _TrainingNorm
        y: Tensor = norm.apply(x, self.scale, self.bias, self.rolling_mean, self.rolling_variance, self.momentum)
        return y


class _TrainingNorm(torch.autograd.Function):
    """Batch norm in training through PyTorch's kernels, with the numbers that make them Darknet's.

    Forward, variance_cpu divides by n - 1 and PyTorch by n: eps and scale are adapted, so that the result is
    scale * (x - mean) / sqrt(variance + eps) with Darknet's variance. Backward, normalize_delta_cpu divides its term
    for the variance by n all the same; handing PyTorch the statistics of the n - 1 variance does that.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, momentum: float
    ) -> Tensor:
        n = x.numel() // x.shape[1]
        if n < 2:
            raise UserError("batch norm cannot train on one value per channel; use a larger batch or a larger input")
        ratio = n / (n - 1)
        y, batch_mean, inverse_std = torch.native_batch_norm(
            x, scale / math.sqrt(ratio), bias, mean, variance, True, momentum, BATCH_NORM_EPS / ratio
        )
        ctx.save_for_backward(x, scale, batch_mean, inverse_std / math.sqrt(ratio))
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, batch_mean, inverse_std = ctx.saved_tensors
        dx, dscale, dbias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], x, scale, None, None, batch_mean, inverse_std, True, BATCH_NORM_EPS, [True, True, True]
        )
        return dx, dscale, dbias, None, None, None


class _SynchronisedNorm(torch.autograd.Function):
    """`_TrainingNorm` over the batches of all processes together, with the same numbers as one process would have."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, momentum: float
    ) -> Tensor:
        values = x.float()
        n = values.numel() // x.shape[1] * dist.get_world_size()
        batch_mean = _sum_over_processes(values.sum(dim=(0, 2, 3))) / n
        centred = values - batch_mean[:, None, None]
        batch_variance = _sum_over_processes(centred.square().sum(dim=(0, 2, 3))) / (n - 1)
        inverse_std = (batch_variance + BATCH_NORM_EPS).rsqrt()
        mean.lerp_(batch_mean, momentum)
        variance.lerp_(batch_variance, momentum)
        ctx.save_for_backward(x, scale, batch_mean, inverse_std)
        ctx.n = n
        return (centred * (inverse_std * scale)[:, None, None] + bias[:, None, None]).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, batch_mean, inverse_std = ctx.saved_tensors
        dy = gradients[0].float()
        normal = (x.float() - batch_mean[:, None, None]) * inverse_std[:, None, None]
        dbias, dscale = dy.sum(dim=(0, 2, 3)), (dy * normal).sum(dim=(0, 2, 3))
        # The sums over the processes stand for what each value changes in the others' statistics; the gradients of
        # scale and bias are this process's own, which DistributedDataParallel adds up.
        both = _sum_over_processes(torch.stack((dbias, dscale))) / ctx.n
        dx = (dy - both[0][:, None, None] - normal * both[1][:, None, None]) * (scale * inverse_std)[:, None, None]
        return dx.to(x.dtype), dscale, dbias, None, None, None


def _sum_over_processes(values: Tensor) -> Tensor:
    dist.all_reduce(values)
    return values
