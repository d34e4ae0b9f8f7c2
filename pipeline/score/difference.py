"""Layer difference: how far each convolution of a network moved from one checkpoint to another.

|1 - cos(w', w)| as in Algorithm 1 of Suzuki, Kuyoshi and Yamane, "Transfer Learning Algorithm for Object Detection",
and what else tells a moved layer from one that stayed: single filters, kernels folded with batch norm, the drift of its
statistics. All in float64. Knows nothing about files.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from pipeline.score.outline import Convolution, Norm, Outline

__all__ = [
    "Drift",
    "LayerDifference",
    "differences",
    "drift",
    "filter_differences",
    "folded_kernel",
    "over_null",
    "vector_difference",
]


@dataclass(frozen=True)
class Drift:
    """Relative change of a batch norm, ‖after - before‖ / ‖before‖ over its channels (Euclidean norms).

    None where all channels were 0 before and no longer are.
    """

    mean: float | None
    variance: float | None
    scale: float | None


@dataclass(frozen=True)
class LayerDifference:
    """How far a convolution moved; every figure is None where `mark` says why there is none.

    Attributes:
        mark: re-initialised (or never trained), another shape, not in BEFORE, not in AFTER; None for one that counts.
        raw: of the kernel as one vector, 0 to 2.
        filter_median, filter_p95: median and 95th percentile of the same over the filters, each a vector.
        folded: of the kernel as the network applies it, times gamma / sqrt(variance + eps); `raw` without batch norm.
        drift: of the batch norm; None without one.
    """

    convolution: Convolution
    mark: str | None = None
    raw: float | None = None
    filter_median: float | None = None
    filter_p95: float | None = None
    folded: float | None = None
    drift: Drift | None = None

    def figure(self, is_folded: bool) -> float | None:
        """`folded` or `raw`."""
        return self.folded if is_folded else self.raw


def vector_difference(before: np.ndarray, after: np.ndarray) -> float:
    """|1 - cos(after, before)| of two arrays of one shape, each taken as a vector; exactly 0 for equal ones.

    It is computed as half the squared distance of the vectors of length 1, which is the same and keeps its digits where
    1 - cos would cancel them. A vector of zeros has no direction: against another vector its cosine counts as 0.

    >>> vector_difference(np.array([1.0, 0.0]), np.array([0.0, 3.0]))
    1.0
    """
    return float(filter_differences(before.reshape(1, -1), after.reshape(1, -1))[0])


def filter_differences(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """`vector_difference` of each filter: (filters, ...) twice to (filters,) float64."""
    old, new = (array.reshape(len(array), -1).astype(np.float64) for array in (before, after))
    lengths = [_lengths(old), _lengths(new)]
    has_direction = (lengths[0] > 0) & (lengths[1] > 0)
    old, new = (
        array / np.where(length > 0, length, 1)[:, None] for array, length in zip((old, new), lengths, strict=True)
    )
    moved = np.square(new - old).sum(axis=1) / 2
    return np.where(has_direction, moved, np.where(lengths[0] == lengths[1], 0.0, 1.0))


def folded_kernel(kernel: np.ndarray, scale: np.ndarray, variance: np.ndarray, eps: float) -> np.ndarray:
    """A kernel, filters first, as the network applies it: each filter times scale / sqrt(variance + eps); float64."""
    factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + eps)
    return kernel.astype(np.float64) * factor.reshape(-1, *[1] * (kernel.ndim - 1))


def drift(before: np.ndarray, after: np.ndarray) -> float | None:
    """‖after - before‖ / ‖before‖ of arrays of one shape; 0 for equal ones, None where only `before` is 0."""
    old, new = before.astype(np.float64), after.astype(np.float64)
    change, length = float(np.linalg.norm(new - old)), float(np.linalg.norm(old))
    if change == 0:
        return 0.0
    return change / length if length else None


def over_null(found: float | None, null: float | None) -> float | None:
    """How many times as far a layer moved as by training having gone on; None where that did not move it at all."""
    return None if found is None or not null else found / null


def differences(
    outline: Outline, before: Mapping[str, Tensor], after: Mapping[str, Tensor], reinitialised: Collection[int] = ()
) -> tuple[LayerDifference, ...]:
    """Score every convolution of `outline` that either side holds, in its order.

    Args:
        before, after: tensors by the outline's names.
        reinitialised: layers, as freezing counts them, that were random before what is measured, or after it still.
    """
    return tuple(
        _scored(convolution, before, after, reinitialised)
        for convolution in outline.convolutions
        if convolution.kernel in before or convolution.kernel in after
    )


def _scored(
    convolution: Convolution, before: Mapping[str, Tensor], after: Mapping[str, Tensor], reinitialised: Collection[int]
) -> LayerDifference:
    mark = _mark(convolution, before, after, reinitialised)
    if mark is not None:
        return LayerDifference(convolution, mark)
    old, new = _array(before[convolution.kernel]), _array(after[convolution.kernel])
    per_filter = filter_differences(old, new)
    raw = vector_difference(old, new)
    folded, moved = raw, None
    if convolution.norm is not None:
        kernels = [_folded(convolution.norm, kernel, side) for kernel, side in ((old, before), (new, after))]
        folded = vector_difference(*kernels)
        moved = _drift(convolution.norm, before, after)
    median, p95 = np.percentile(per_filter, (50, 95)).tolist()
    return LayerDifference(convolution, None, raw, median, p95, folded, moved)


def _mark(
    convolution: Convolution, before: Mapping[str, Tensor], after: Mapping[str, Tensor], reinitialised: Collection[int]
) -> str | None:
    norm = convolution.norm
    names = [convolution.kernel, *((norm.scale, norm.mean, norm.variance) if norm else ())]
    for side, tensors in (("BEFORE", before), ("AFTER", after)):
        if any(name not in tensors for name in names):
            return f"not in {side}"
    if any(before[name].shape != after[name].shape for name in names):
        return "another shape"
    return "re-initialised" if convolution.layer in reinitialised else None


def _folded(norm: Norm, kernel: np.ndarray, tensors: Mapping[str, Tensor]) -> np.ndarray:
    return folded_kernel(kernel, _array(tensors[norm.scale]), _array(tensors[norm.variance]), norm.eps)


def _drift(norm: Norm, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> Drift:
    return Drift(*(drift(_array(before[n]), _array(after[n])) for n in (norm.mean, norm.variance, norm.scale)))


def _array(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().double().numpy()
    return array


def _lengths(rows: np.ndarray) -> np.ndarray:
    lengths: np.ndarray = np.linalg.norm(rows, axis=1)
    return lengths
