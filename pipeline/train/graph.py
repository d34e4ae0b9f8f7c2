"""A CUDA graph of one step of learning: its thousand small kernels are started as one.

Knows nothing about what the step does, but that it never waits for the device and its shapes stay the same.
"""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Captured"]

_WARM_UP = 3  # real steps before the capture, in which libraries choose kernels and momentum comes into being


class Captured:
    """Calls `step`; from the fourth call on as a graph. Only on CUDA, and always with tensors of the same shapes."""

    def __init__(self, step: Callable[..., dict[str, Tensor]]) -> None:
        self._step, self._calls = step, 0
        self._stream = torch.cuda.Stream()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._outputs: dict[str, Tensor] = {}

    def __call__(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Take a step; returns its results."""
        self._calls += 1
        if self._calls <= _WARM_UP:
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                outputs = self._step(*inputs)
            torch.cuda.current_stream().wait_stream(self._stream)
            return outputs
        if self._graph is None:
            self._capture(inputs)
        for fixed, new in zip(self._inputs, inputs, strict=True):
            fixed.copy_(new)
        assert self._graph is not None
        self._graph.replay()
        return {name: value.clone() for name, value in self._outputs.items()}

    def _capture(self, inputs: tuple[Tensor, ...]) -> None:
        """Record a step; recording runs nothing."""
        self._inputs = tuple(value.clone() for value in inputs)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads, which read pictures, may go on meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._outputs = self._step(*self._inputs)
