"""A trained classifier on disk, `runs/<name>/classify/<network>-<technique>-s<seed>/`: settings, figures, state.

    result.json         settings, and the result once it is finished
    metrics.jsonl       a line per epoch
    best.safetensors    weights of the epoch with the best mean F1 on val; of the first one if several are equal
    last.safetensors    weights of the last epoch
    state.pt            what resuming needs, until it is finished

Everything appears by rename. Knows nothing about how training is done.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from pipeline.errors import refuse
from pipeline.files import write_text
from pipeline.score.figures import Figures
from pipeline.training_record import read_record, require_equal, require_weights, write_record

__all__ = ["TECHNIQUES", "ClassifierFolder", "ClassifierResult", "ClassifierSettings", "Epoch", "Technique"]

Technique = Literal["scratch", "frozen", "finetuned"]
TECHNIQUES: tuple[Technique, ...] = ("scratch", "frozen", "finetuned")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClassifierSettings(_Record):
    """Everything that decides the numbers. Equal settings on one machine give equal weights.

    Attributes:
        pretrained_sha256: of the file with the weights it starts from; None from scratch.
        size: side of the crops in pixels, after the resize. smallest: side in pixels of the photo.
        flip: mirror every second crop at random.
    """

    network: str
    technique: Technique
    seed: int
    pretrained_sha256: str | None
    data: str
    data_hash: str
    classes: tuple[str, ...]
    size: int
    smallest: float
    epochs: int
    batch: int
    learning_rate: float
    flip: bool

    @property
    def name(self) -> str:
        """Of the folder."""
        return f"{self.network}-{self.technique}-s{self.seed}"


class Epoch(_Record):
    """What was measured after an epoch, counted from 1. Losses are cross entropies, means over the crops.

    train_loss: over the epoch, on augmented crops, while the weights changed. The rest is on val. seconds: so far.
    """

    epoch: int
    train_loss: float
    val_loss: float
    accuracy: float
    mean_class_accuracy: float
    mean_precision: float
    mean_recall: float
    mean_f1: float
    seconds: float


class ClassifierResult(_Record):
    """What a finished training leaves.

    Attributes:
        crops: of each split. too_small: objects of each split that were left out.
        val, test: of the best epoch; test is None where the set has no such split.
        diagnosis: what the learning curves say.
        seconds: of training, with the measuring after each epoch.
    """

    epochs: int
    best_epoch: int
    best_weights_sha256: str
    crops: dict[str, int]
    too_small: dict[str, int]
    val: Figures
    test: Figures | None
    diagnosis: str
    seconds: float
    machine: dict[str, str]


@dataclass(frozen=True)
class ClassifierFolder:
    """Paths and records of one training."""

    root: Path

    @property
    def best_weights(self) -> Path:
        """Weights of the best epoch."""
        return self.root / "best.safetensors"

    @property
    def last_weights(self) -> Path:
        """Weights of the last epoch."""
        return self.root / "last.safetensors"

    @property
    def state(self) -> Path:
        """What resuming needs."""
        return self.root / "state.pt"

    @property
    def metrics(self) -> Path:
        """One JSON object per line."""
        return self.root / "metrics.jsonl"

    @property
    def record(self) -> Path:
        """Settings and result."""
        return self.root / "result.json"

    def write(self, settings: ClassifierSettings, result: ClassifierResult | None) -> None:
        """Write result.json."""
        write_record(self.record, settings, result)

    def write_epochs(self, epochs: list[Epoch]) -> None:
        """Write metrics.jsonl anew; it has as many lines as there were epochs."""
        write_text(self.metrics, "".join(f"{json.dumps(epoch.model_dump())}\n" for epoch in epochs))

    def read(self) -> tuple[ClassifierSettings, ClassifierResult | None]:
        """Read result.json; None for one that is not finished.

        Raises:
            UserError: no such file, one of another version, or best weights that are not those it names.
        """
        settings, result = read_record(self.record, ClassifierSettings, ClassifierResult, "run skylight classify first")
        if result is not None:
            require_weights(self.best_weights, result)
        return settings, result

    def epochs(self) -> tuple[Epoch, ...]:
        """Every epoch so far, in order.

        Raises:
            UserError: a line that is no epoch.
        """
        if not self.metrics.exists():
            return ()
        lines = self.metrics.read_text(encoding="utf-8").splitlines()
        try:
            return tuple(Epoch.model_validate_json(line) for line in lines)
        except ValueError:
            remedy = f"remove {self.root} and run again"
            raise refuse(self.metrics, "holds a line that is no epoch", remedy) from None

    def require_same(self, settings: ClassifierSettings) -> ClassifierResult | None:
        """Return the result, if any, of what lies here; refuse to go on with other settings or data.

        One of which nothing was kept may be begun with other settings.
        """
        if not self.record.is_file():
            return None
        before, result = self.read()
        if result is None and not self.state.exists():
            return None
        require_equal(self.root, before, settings, "give another --name")
        return result

    def remove_leftovers(self) -> None:
        """Remove what a killed process left half-written."""
        for name in ("state", "best", "last", "result", "metrics"):
            for leftover in self.root.glob(f".{name}-*"):
                leftover.unlink()
