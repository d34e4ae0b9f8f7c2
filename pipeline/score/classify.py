"""Trains one classifier on crops, resumable at every epoch. Knows nothing about other trainings, nor about photos.

What an epoch does depends on the seed and its number alone, so that a resumed training ends with the same numbers.
"""

import pickle
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from pipeline.errors import refuse
from pipeline.files import file_sha256, locked_folder, new_file
from pipeline.interrupt import Interrupted, StopQuestion
from pipeline.score.classifiers import Classifier, classifier, read_tensors
from pipeline.score.crops import Crops
from pipeline.score.figures import Figures, figures
from pipeline.score.trained_classifier import ClassifierFolder, ClassifierResult, ClassifierSettings, Epoch
from pipeline.train.curves import diagnose
from pipeline.train.memory import keep_freed_memory

__all__ = ["Progress", "Step", "train_classifier"]

_AT_ONCE = 64  # crops, where nothing is learned


@dataclass(frozen=True)
class Step:
    """What a bar shows. batches: done, of all epochs together. mean_f1: on val, of the newest epoch."""

    batches: int
    of_batches: int
    epoch: int
    mean_f1: float | None


Progress = Callable[[Step], None]


def train_classifier(
    folder: ClassifierFolder,
    settings: ClassifierSettings,
    crops: Mapping[str, Crops],
    pretrained: Path | None,
    stop: StopQuestion,
    progress: Progress | None = None,
) -> ClassifierResult:
    """Train, or go on where the folder's state stands; return the result of one that is finished.

    Args:
        crops: by split; train and val hold some, test may.
        pretrained: file to start from; None from scratch.
        stop: asked after every batch; if set, Interrupted is raised, and what was kept is the last whole epoch.

    Raises:
        UserError: other settings than those in the folder, another process in it, a file that does not fit, a loss
            that is not finite, too little memory.
        Interrupted: after a stop; the same call goes on.
    """
    with locked_folder(folder.root):
        finished = folder.require_same(settings)
        if finished is not None:
            return finished
        try:
            training = _Training(folder, settings, crops, pretrained)
            training.run(stop, progress)
            return training.finish()
        except torch.OutOfMemoryError:
            raise refuse("too little memory", f"batch {settings.batch}", "give a smaller --batch or --size") from None


class _Training:
    def __init__(
        self, folder: ClassifierFolder, settings: ClassifierSettings, crops: Mapping[str, Crops], start: Path | None
    ) -> None:
        self.folder, self.settings, self.crops = folder, settings, crops
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cpu":
            keep_freed_memory()
        torch.manual_seed(settings.seed)
        model = classifier(settings.network, len(settings.classes), settings.size)
        if start is not None:
            model.load(start, read_tensors(start)[0], with_head=False)
        if settings.technique == "frozen":
            model.freeze()
        self.model: Classifier = model.to(self.device).to(memory_format=torch.channels_last)
        self.data = {split: (part.pixels.to(self.device), part.labels.to(self.device)) for split, part in crops.items()}
        # What learns, and what it reads of each split: the crops, or what the frozen layers make of them.
        self.learned: nn.Module = model
        self.read: dict[str, Tensor] = {split: pixels[None] for split, (pixels, _) in self.data.items()}
        self.is_cached = model.is_frozen and self._keep_features()
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(learning, settings.learning_rate)
        self.epochs: list[Epoch] = []
        self.best: dict[str, Tensor] = {}
        self.batches = -(-len(self.data["train"][1]) // settings.batch)

    def _keep_features(self) -> bool:
        """Run the frozen layers once per crop and once per its mirror image, where the head comes last."""
        self.model.eval()
        features: dict[str, Tensor] = {}
        for split, (pixels, _) in self.data.items():
            views = [pixels, pixels.flip(3)] if self.settings.flip and split == "train" else [pixels]
            parts = [[self.model.before_head(_images(part)) for part in view.split(_AT_ONCE)] for view in views]
            if any(part is None for view in parts for part in view):
                return False
            features[split] = torch.stack([torch.cat([p for p in view if p is not None]) for view in parts])
        self.learned, self.read = self.model.head, features
        return True

    def run(self, stop: StopQuestion, progress: Progress | None) -> None:
        """Train to the end, or until asked to stop."""
        self.folder.remove_leftovers()
        self.folder.write(self.settings, None)
        self._resume()
        while len(self.epochs) < self.settings.epochs:
            self._one_epoch(stop, progress)
            self._save()

    def _one_epoch(self, stop: StopQuestion, progress: Progress | None) -> None:
        settings, number = self.settings, len(self.epochs)
        begin = time.perf_counter()
        labels = self.data["train"][1]
        torch.manual_seed(settings.seed * 1_000_003 + number)  # for dropout
        order, is_mirrored = self._order(number)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        self.model.train()
        for done, chosen in enumerate(torch.tensor_split(order, self.batches), start=1):
            self.optimizer.zero_grad(set_to_none=True)
            loss = functional.cross_entropy(self.learned(self._batch(chosen, is_mirrored[chosen])), labels[chosen])
            loss.backward()
            self.optimizer.step()
            total += loss.detach() * len(chosen)
            if progress:
                f1 = self.epochs[-1].mean_f1 if self.epochs else None
                progress(Step(number * self.batches + done, settings.epochs * self.batches, number + 1, f1))
            if stop.is_set and done < self.batches:
                raise Interrupted(self._kept())
        mean = float(total) / len(order)
        if mean != mean or mean == float("inf"):
            remedy = "give a smaller --learning-rate, and remove the folder"
            raise refuse(self.folder.root, f"the loss is {mean} in epoch {number + 1}", remedy)
        self._measure(mean, time.perf_counter() - begin)
        if stop.is_set and len(self.epochs) < settings.epochs:
            self._save()
            raise Interrupted(self._kept())

    def _order(self, number: int) -> tuple[Tensor, Tensor]:
        """Order of the crops in an epoch, and which are mirrored, both (N,)."""
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + number)
        count = len(self.data["train"][1])
        order = torch.randperm(count, generator=generator)
        is_mirrored = (torch.rand(count, generator=generator) < 0.5) & self.settings.flip
        return order.to(self.device), is_mirrored.to(self.device)

    def _batch(self, chosen: Tensor, is_mirrored: Tensor) -> Tensor:
        """What the learned part reads of these crops, (batch, ...)."""
        if self.is_cached:
            return self.read["train"][is_mirrored.long() if self.settings.flip else 0, chosen]
        pixels = self.read["train"][0, chosen]
        return _images(torch.where(is_mirrored[:, None, None, None], pixels.flip(3), pixels))

    @torch.no_grad()
    def _logits(self, split: str) -> Tensor:
        """(N, classes) of a split, as it is."""
        self.model.eval()
        parts = self.read[split][0].split(_AT_ONCE)
        return torch.cat([self.learned(part if self.is_cached else _images(part)) for part in parts])

    def _measure(self, train_loss: float, seconds: float) -> None:
        """Add the epoch, and keep its weights if they are the best."""
        begin = time.perf_counter()
        logits, labels = self._logits("val"), self.data["val"][1]
        found = figures(logits.argmax(1).cpu(), labels.cpu(), self.settings.classes)
        before = self.epochs[-1].seconds if self.epochs else 0.0
        epoch = Epoch(
            epoch=len(self.epochs) + 1,
            train_loss=train_loss,
            val_loss=float(functional.cross_entropy(logits, labels)),
            seconds=before + seconds + time.perf_counter() - begin,
            **found.as_means(),
        )
        if epoch.mean_f1 > max((earlier.mean_f1 for earlier in self.epochs), default=-1.0):
            self.best = {key: value.detach().cpu().clone() for key, value in self.learned.state_dict().items()}
        self.epochs.append(epoch)

    def _resume(self) -> None:
        if not self.folder.state.exists():
            return
        try:
            content = torch.load(self.folder.state, map_location="cpu", weights_only=True)
            self.learned.load_state_dict(content["learned"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.epochs = [Epoch.model_validate(row) for row in content["epochs"]]
            self.best = content["best"]
        except (RuntimeError, OSError, EOFError, pickle.UnpicklingError, KeyError, TypeError, ValueError):
            raise refuse(self.folder.state, "cannot be read", "remove it; the training starts over") from None

    def _save(self) -> None:
        """Save the state, then metrics.jsonl, which follows from it."""
        content: dict[str, Any] = {
            "learned": self.learned.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epochs": [epoch.model_dump() for epoch in self.epochs],
            "best": self.best,
        }
        with new_file(self.folder.state) as part:
            torch.save(content, part)
        self.folder.write_epochs(self.epochs)

    def _kept(self) -> str:
        done = f"kept up to epoch {len(self.epochs)} of {self.settings.epochs}"
        return f"{self.folder.root}: {done}; the same command goes on from there"

    def finish(self) -> ClassifierResult:
        """Write weights and result; the state is not needed any more."""
        settings, about = self.settings, self.settings.model_dump(mode="json")
        self.folder.write_epochs(self.epochs)
        self.model.save(self.folder.last_weights, about)
        self.learned.load_state_dict(self.best)
        self.model.save(self.folder.best_weights, about)
        best = max(self.epochs, key=lambda epoch: epoch.mean_f1)
        result = ClassifierResult(
            epochs=len(self.epochs),
            best_epoch=best.epoch,
            best_weights_sha256=file_sha256(self.folder.best_weights),
            crops={split: len(part) for split, part in self.crops.items()},
            too_small={split: part.too_small for split, part in self.crops.items()},
            val=self._figures("val"),
            test=self._figures("test") if len(self.data["test"][1]) else None,
            diagnosis=str(diagnose([(e.epoch, e.train_loss, e.val_loss) for e in self.epochs], "epoch")),
            seconds=self.epochs[-1].seconds,
            machine={
                "processor": platform.processor() or platform.machine(),
                "device": torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu",
                "threads": str(torch.get_num_threads()),
                "torch": torch.__version__,
            },
        )
        self.folder.write(settings, result)
        self.folder.state.unlink(missing_ok=True)
        return result

    def _figures(self, split: str) -> Figures:
        return figures(self._logits(split).argmax(1).cpu(), self.data[split][1].cpu(), self.settings.classes)


def _images(pixels: Tensor) -> Tensor:
    """(batch, 3, H, W) uint8 to float32 from 0 to 1, channels last."""
    return pixels.float().div_(255).contiguous(memory_format=torch.channels_last)
