"""One step of learning: forward, backward, and the change of the weights, as Darknet does it.

Stochastic gradient descent with momentum, the gradient summed over the batch and divided by its size, decay on kernels
only. Knows nothing about where batches come from, nor about files.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.networks.detector import Detector

__all__ = ["MovingAverage", "Updater", "autocast"]


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Run convolutions in `precision`, float32 or bfloat16; weights, batch norm's statistics and losses are float32."""
    # Every weight is used once per pass, so that keeping its copy gains nothing, and a captured graph must not.
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False)


class Updater:
    """Changes the weights of a detector, batch by batch.

    subdivisions: parts of a batch that go through the network one after the other. processes: that do the same on their
    own parts of the batch; gradients are averaged, and statistics of batch norm are those of the whole batch.
    """

    def __init__(
        self, detector: Detector, precision: str, momentum: float, decay: float, subdivisions: int, processes: int = 1
    ) -> None:
        self._detector, self._precision, self._subdivisions = detector, precision, subdivisions
        self._device = next(detector.parameters()).device
        self._losses: Callable[[tuple[Tensor, ...], Tensor], dict[str, Tensor]] = detector.losses
        if processes > 1:
            detector.synchronise()
            devices = [self._device] if self._device.type == "cuda" else None
            self._losses = nn.parallel.DistributedDataParallel(_Losses(detector), device_ids=devices)
        self._optimizer = _optimizer(detector, momentum, decay, self._device)
        # Where the rate lies and how the step is computed belong to this device, not to the one that saved a state.
        self._own = [{key: group[key] for key in ("lr", "fused", "foreach")} for group in self._optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Momentum and settings of the optimizer."""
        return self._optimizer.state_dict()

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self._optimizer.load_state_dict(content)
        for group, own in zip(self._optimizer.param_groups, self._own, strict=True):
            group.update(own)

    def set_rate(self, rate: float) -> None:
        """Set the learning rate; on a GPU where it lies, so that a captured graph sees it."""
        for group in self._optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def learn(
        self, inputs: tuple[Tensor, ...], prepare: Callable[..., tuple[tuple[Tensor, ...], Tensor]] | None = None
    ) -> dict[str, Tensor]:
        """Learn from a batch at the rate that is set; returns the parts of its loss. Nothing waits for the device.

        Args:
            inputs: batch first: features of `Detector.trunk`, and last the truth, (batch, boxes, 5).
            prepare: makes features and truth of one subdivision's part of the inputs, where they are not yet that.
        """
        self._detector.train()
        self._optimizer.zero_grad(set_to_none=True)
        total: dict[str, Tensor] = {}
        for chunk in range(self._subdivisions):
            part = _part(inputs, chunk, self._subdivisions)
            features, truth = prepare(*part) if prepare else (part[:-1], part[-1])
            with autocast(self._device, self._precision):
                losses = self._losses(features, truth)
            (torch.stack(list(losses.values())).sum() / self._subdivisions).backward()
            for name, value in losses.items():
                share = value.detach() / self._subdivisions
                total[name] = total[name] + share if chunk else share
        self._optimizer.step()
        return total


def _part(inputs: tuple[Tensor, ...], number: int, count: int) -> tuple[Tensor, ...]:
    """One of `count` parts of a batch."""
    size = len(inputs[0])
    return tuple(value[number * size // count : (number + 1) * size // count] for value in inputs)


class _Losses(nn.Module):
    """A detector whose call is its losses, which is what DistributedDataParallel wraps."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, features: tuple[Tensor, ...], truth: Tensor) -> dict[str, Tensor]:
        return self.detector.losses(features, truth)


class MovingAverage:
    """An exponential moving average of what is trained: weights, and statistics of batch norm.

    decay: at most; it begins lower, at (1 + steps) / (10 + steps), since the first weights mean little.
    """

    def __init__(self, detector: Detector, decay: float) -> None:
        self._decay, self.steps = decay, 0
        self._live = _trained_tensors(detector)
        self.values = {name: tensor.detach().clone() for name, tensor in self._live.items()}

    def state_dict(self) -> dict[str, Any]:
        """The average and the number of steps."""
        return {"steps": self.steps, "values": self.values}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.steps = content["steps"]
        for name, value in content["values"].items():
            self.values[name].copy_(value)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are."""
        self.steps += 1
        decay = min(self._decay, (1 + self.steps) / (10 + self.steps))
        for name, tensor in self._live.items():
            self.values[name].lerp_(tensor, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The average in place of the weights, inside the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, tensor in self._live.items():
            kept = tensor.detach().clone()
            tensor.copy_(self.values[name])
            self.values[name].copy_(kept)


def _trained_tensors(detector: Detector) -> dict[str, Tensor]:
    """Everything that training changes; what is frozen is left alone, to the bit."""
    frozen = {id(module) for index in detector.frozen for module in detector.network_layers[index].module.modules()}
    tensors: dict[str, Tensor] = {name: p for name, p in detector.named_parameters() if p.requires_grad}
    for prefix, module in detector.named_modules():
        if id(module) not in frozen:
            tensors |= {
                f"{prefix}.{name}": b for name, b in module.named_buffers(recurse=False) if b.is_floating_point()
            }
    return tensors


def _optimizer(detector: Detector, momentum: float, decay: float, device: torch.device) -> torch.optim.SGD:
    decayed = {id(parameter) for parameter in detector.decayed()}
    learned: list[nn.Parameter] = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learned if id(p) in decayed], "weight_decay": decay},
        {"params": [p for p in learned if id(p) not in decayed], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    is_cuda = device.type == "cuda"
    rate = torch.zeros((), device=device) if is_cuda else 0.0
    return torch.optim.SGD(groups, lr=rate, momentum=momentum, fused=True if is_cuda else None)
