"""The training loop: one trial from its start to its result, resumable at any moment.

Updates as Darknet does: stochastic gradient descent with momentum, the summed gradient divided by the batch, decay on
kernels only. What iteration i does depends on the seed and i alone, so that a resumed trial ends with the same numbers.
Knows nothing about other trials.
"""

import hashlib
import json
import pickle
import platform
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from pipeline.curated import file_sha256
from pipeline.darknet import DarknetNetwork, Header, save_weights
from pipeline.darknet.network import BatchNorm
from pipeline.darknet.yolo import cost, require_trainable
from pipeline.errors import refuse
from pipeline.files import new_file, write_text
from pipeline.interrupt import Interrupted, StopRequest
from pipeline.train.augment import augment
from pipeline.train.dataset import ImageTensors
from pipeline.train.evaluate import evaluate
from pipeline.train.freeze import freeze_layers
from pipeline.train.trial import Evaluation, TrialFolder, TrialResult, TrialSettings

__all__ = ["Step", "train_trial"]

_SAVE_EVERY = 30.0  # seconds between states saved beside those at evaluations
_LOG_EVERY = 10  # iterations


@dataclass(frozen=True)
class Step:
    """What a progress bar shows: iterations done, smoothed loss per image, images per second, newest AP."""

    iteration: int
    loss: float
    images_per_second: float
    ap50: float | None


@dataclass
class _State:
    """What changes while training, besides weights and momentum."""

    iteration: int = 0
    seconds: float = 0.0
    dose: float = 0.0
    loss: float = 0.0
    metrics_bytes: int = 0
    best_iteration: int = 0
    best_ap50: float = -1.0
    evaluations: list[dict[str, Any]] = field(default_factory=list)


def train_trial(
    folder: TrialFolder,
    settings: TrialSettings,
    network: DarknetNetwork,
    trained: Collection[int],
    train: ImageTensors,
    val: ImageTensors,
    stop: StopRequest,
    on_step: Callable[[Step], None] | None = None,
) -> TrialResult:
    """Train `network`, which holds the start's weights, or go on where the folder's state stands.

    Args:
        trained: layers whose weights were trained before.
        stop: asked after every iteration; if set, the state is saved and Interrupted raised.

    Raises:
        UserError: the folder holds a trial with other settings, a loss that is not finite, a set without boxes.
        Interrupted: after a stop; the same call goes on.
    """
    for head in network.spec.heads:
        require_trainable(head, settings.loss)
    if not network.spec.heads:
        raise refuse(network.cfg.path, "has no [yolo] layer", "train a detector, for example yolov3-tiny")
    if not (train.truth[..., 2] > 0).any():
        raise refuse(settings.data, "no box in the train split", "label at least one object")
    trainer = _Trainer(folder, settings, network, train, val)
    trainer.resume()
    while trainer.state.iteration < settings.iterations:
        trainer.iterate()
        if on_step:
            on_step(trainer.step())
        if stop.is_set and trainer.state.iteration < settings.iterations:
            trainer.save()
            raise Interrupted(
                f"{folder.root}: kept up to iteration {trainer.state.iteration} of {settings.iterations}; "
                "the same command goes on from there"
            )
    return trainer.finish(trained)


class _Trainer:
    def __init__(
        self,
        folder: TrialFolder,
        settings: TrialSettings,
        network: DarknetNetwork,
        train: ImageTensors,
        val: ImageTensors,
    ) -> None:
        self.folder, self.settings, self.network = folder, settings, network
        self.train, self.val = train, val
        self.frozen = freeze_layers(network, settings.freeze)
        for module in network.modules():
            if isinstance(module, BatchNorm):
                module.momentum = settings.batch_norm_momentum
        network.to(memory_format=torch.channels_last)
        self.optimizer = _optimizer(network, settings)
        self.state = _State()
        self.saved_at = time.monotonic()

    def resume(self) -> None:
        """Load the saved state, if there is one, and forget what was logged after it."""
        self.folder.root.mkdir(parents=True, exist_ok=True)
        for name in ("state", "best", "last", "trial", "network"):
            for leftover in self.folder.root.glob(f".{name}-*"):
                leftover.unlink()
        result = self.folder.require_same(self.settings)
        if result is None:
            self.folder.write(self.settings, None)
        write_text(self.folder.cfg, self.network.cfg.text)
        if self.folder.state.exists():
            try:
                content = torch.load(self.folder.state, map_location="cpu", weights_only=True)
            except (RuntimeError, OSError, EOFError, pickle.UnpicklingError):
                raise refuse(self.folder.state, "cannot be read", "remove it; the trial starts over") from None
            self.network.load_state_dict(content["network"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.state = _State(**content["state"])
        if self.folder.metrics.exists():
            with self.folder.metrics.open("rb+") as file:
                file.truncate(self.state.metrics_bytes)

    def iterate(self) -> None:
        """Train on one batch; log, evaluate and save when it is time."""
        started = time.perf_counter()
        state, settings = self.state, self.settings
        rate = _learning_rate(settings, state.iteration)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        indices = _batch_indices(len(self.train), settings.batch, settings.seed, state.iteration)
        loss = self._update(indices)
        if not torch.isfinite(loss):
            names = ", ".join(self.train.sources[index].image_id for index in indices[:4])
            raise refuse(
                self.folder.root,
                f"the loss is {float(loss)} at iteration {state.iteration + 1} (pictures {names}, ...)",
                "lower learning_rate or add burn_in; the last checkpoint is kept",
            )
        state.iteration += 1
        state.dose += rate
        smoothing = 0.9 if state.iteration > 1 else 0.0
        state.loss = smoothing * state.loss + (1 - smoothing) * float(loss)
        state.seconds += time.perf_counter() - started
        is_evaluated = state.iteration in settings.evaluate_at or state.iteration == settings.iterations
        if state.iteration % _LOG_EVERY == 0 or is_evaluated:
            self._log({"iteration": state.iteration, "loss": state.loss, "learning_rate": rate, **self._cost_so_far()})
        if is_evaluated:
            self._evaluate()
        if is_evaluated or time.monotonic() - self.saved_at > _SAVE_EVERY:
            self.save()

    def _update(self, indices: Tensor) -> Tensor:
        """One forward and backward pass and one step; returns Darknet's cost per image."""
        self.network.train()
        generator = _generator(self.settings.seed, self.state.iteration, "augment")
        device = next(self.network.parameters()).device
        images, truth = self.train.images[indices].to(device), self.train.truth[indices].to(device)
        images, truth = augment(images, truth, self.settings.augment, generator)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"):
            raws = self.network(images.contiguous(memory_format=torch.channels_last))
        heads = zip(raws, self.network.spec.heads, strict=True)
        loss = torch.stack([cost(raw, truth, head, self.settings.loss) for raw, head in heads]).sum() / len(indices)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if torch.isfinite(loss):
            self.optimizer.step()
        return loss.detach()

    def _evaluate(self) -> None:
        scores = evaluate(self.network, self.val, self.settings.classes)
        state = self.state
        row = Evaluation(state.iteration, state.seconds, state.dose, scores.ap50, scores.coco_map)
        self._log({"evaluation": asdict(row), "ap50_per_class": scores.as_dict()["ap50_per_class"]})
        state.evaluations.append(asdict(row))
        header = Header(seen=state.iteration * self.settings.batch)
        if scores.ap50 > state.best_ap50:
            state.best_ap50, state.best_iteration = scores.ap50, state.iteration
            save_weights(self.network, self.folder.best_weights, header)
        save_weights(self.network, self.folder.last_weights, header)

    def _log(self, row: dict[str, Any]) -> None:
        line = (json.dumps(row) + "\n").encode()
        with self.folder.metrics.open("ab") as file:
            file.write(line)
        self.state.metrics_bytes += len(line)

    def save(self) -> None:
        """Save the state, complete or not at all."""
        content = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "state": asdict(self.state),
        }
        with new_file(self.folder.state) as part:
            torch.save(content, part)
        self.saved_at = time.monotonic()

    def step(self) -> Step:
        """What there is to show now."""
        evaluations = self.state.evaluations
        return Step(
            self.state.iteration,
            self.state.loss,
            self.state.iteration * self.settings.batch / max(self.state.seconds, 1e-9),
            evaluations[-1]["ap50"] if evaluations else None,
        )

    def finish(self, trained: Collection[int]) -> TrialResult:
        """Write the result into trial.json; the state is not needed any more, its size is."""
        now_trained = set(trained) | (set(self.network.spec.weighted_layers) - set(self.frozen))
        result = TrialResult(
            best_iteration=self.state.best_iteration,
            best_ap50=self.state.best_ap50,
            best_weights_sha256=file_sha256(self.folder.best_weights),
            seconds=self.state.seconds,
            dose=self.state.dose,
            images_per_second=self.step().images_per_second,
            frozen_layers=self.frozen,
            trained_layers=tuple(sorted(now_trained)),
            machine={
                "processor": platform.processor() or platform.machine(),
                "device": str(next(self.network.parameters()).device),
                "threads": str(torch.get_num_threads()),
                "torch": torch.__version__,
            },
        )
        self.folder.write(self.settings, result)
        self.folder.state.unlink(missing_ok=True)
        return result

    def _cost_so_far(self) -> dict[str, float]:
        return {"seconds": round(self.state.seconds, 3), "dose": self.state.dose}


def _optimizer(network: DarknetNetwork, settings: TrialSettings) -> torch.optim.SGD:
    """Decay on kernels only, as convolutional_layer.c update_convolutional_layer."""
    kernels = {id(network.weighted(index).weight) for index in network.spec.weighted_layers}
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learned if id(p) in kernels], "weight_decay": settings.decay},
        {"params": [p for p in learned if id(p) not in kernels], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)


def _learning_rate(settings: TrialSettings, iteration: int) -> float:
    """network.c get_current_rate: during burn-in the rate grows with the fourth power, then it is constant."""
    if iteration < settings.burn_in:
        return float(settings.learning_rate * ((iteration + 1) / settings.burn_in) ** 4)
    return settings.learning_rate


def _batch_indices(count: int, batch: int, seed: int, iteration: int) -> Tensor:
    """Indices of one batch: the pictures in a new random order per round, the rounds one after the other."""
    positions = range(iteration * batch, (iteration + 1) * batch)
    orders = {
        number: torch.randperm(count, generator=_generator(seed, number, "order"))
        for number in {position // count for position in positions}
    }
    return torch.stack([orders[position // count][position % count] for position in positions])


def _generator(seed: int, number: int, purpose: str) -> torch.Generator:
    """A generator that depends on its three arguments alone."""
    digest = hashlib.sha256(f"{purpose} {seed} {number}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
