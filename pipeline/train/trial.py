"""One trial on disk, `runs/<experiment>/<stage>/<start>-f<freeze>-s<seed>/`: its files, its settings, its state.

    trial.json      settings, and the result once it is finished
    metrics.jsonl   a line per ten iterations and per evaluation
    network.cfg     best.weights  last.weights      for any Darknet tool; other families have .safetensors
    checkpoints/    weights after every so many iterations, where asked for
    events/         the same figures for TensorBoard
    state.pt        what resuming needs

Knows nothing about how training is done.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from pipeline.errors import refuse
from pipeline.experiment import Augment, StopEarly
from pipeline.files import file_sha256, write_bytes
from pipeline.training_record import read_record, require_equal, require_weights, write_record

__all__ = ["Evaluation", "TrialFolder", "TrialResult", "TrialSettings", "trial_name"]


_MOST_AT_ONCE = 32  # pictures; more are no faster


def trial_name(start: str, freeze: str, seed: int) -> str:
    """Name of a trial's folder. freeze: as `freeze_label` writes it.

    >>> trial_name("windows", "13", 0)
    'windows-f13-s0'
    """
    return f"{start}-f{freeze}-s{seed}"


class TrialSettings(BaseModel):
    """Everything that decides a trial's numbers. Two trials of equal settings on one machine give equal weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    experiment: str
    stage: str
    start: str
    start_sha256: str | None
    start_layers: int | None
    freeze: str
    frozen: tuple[int, ...]
    seed: int
    network: str
    network_sha256: str
    size: int
    classes: tuple[str, ...]
    data: str
    data_hash: str
    resize: str
    iterations: int
    evaluate_at: tuple[int, ...]
    batch: int
    subdivisions: int
    learning_rate: float
    learning_rate_steps: dict[int, float]
    momentum: float
    decay: float
    burn_in: int
    batch_norm_momentum: float
    loss: Literal["alexeyab", "original"]
    precision: Literal["float32", "bfloat16"]
    augment: Augment
    views: int
    ema: float | None
    best_by: Literal["ap50", "coco_map", "f1"]
    stop_early: StopEarly | None
    checkpoint_every: int | None

    @property
    def trial(self) -> str:
        """Name of the trial's folder."""
        return trial_name(self.start, self.freeze, self.seed)

    @property
    def pictures_at_once(self) -> int:
        """How many go through the network where nothing is learned: no more than where something is."""
        return min(_MOST_AT_ONCE, self.batch // self.subdivisions)


@dataclass(frozen=True)
class Evaluation:
    """How good the weights are on the val split after `iteration` batches.

    Attributes:
        seconds: of training so far. dose: sum of the learning rates.
        precision, recall, f1: of detections above 0.25.
        train_loss: smoothed, on augmented pictures. loss: on val, as they are; None where the detector says none.
    """

    iteration: int
    seconds: float
    dose: float
    ap50: float
    coco_map: float
    precision: float
    recall: float
    f1: float
    train_loss: float
    loss: float | None


class TrialResult(BaseModel):
    """What a finished trial leaves to later stages and to the report."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    iterations: int
    stopped_early: bool
    best_iteration: int
    best_ap50: float
    best_weights_sha256: str
    seconds: float
    dose: float
    images_per_second: float
    frozen_layers: tuple[int, ...]
    trained_layers: tuple[int, ...]
    feature_cache: Literal["device", "memory", "disk"] | None
    diagnosis: str
    machine: dict[str, str]


@dataclass(frozen=True)
class TrialFolder:
    """Paths and records of one trial. suffix: of its weights files, which depends on the family of its network."""

    root: Path
    suffix: str = ".weights"

    @classmethod
    def existing(cls, root: Path) -> "TrialFolder":
        """The folder of a trial of either kind: with a network.cfg, or of another family."""
        folder = cls(root)
        return folder if folder.cfg.is_file() else cls(root, ".safetensors")

    @classmethod
    def holding(cls, path: Path) -> "TrialFolder | None":
        """The trial whose folder is given, or in whose folder, or its checkpoints/, a file lies; None for others."""
        path = path.resolve()
        folders = [path] if path.is_dir() else [path.parent]
        if path.parent.name == "checkpoints":
            folders.append(path.parent.parent)
        return next((cls.existing(folder) for folder in folders if (folder / "trial.json").is_file()), None)

    @property
    def is_begun(self) -> bool:
        """Whether a trial lies here of which something was kept."""
        return self.record.is_file() and (self.state.exists() or self.read()[1] is not None)

    @property
    def to_begin_anew(self) -> str:
        """What must be done before other settings are taken, as the end of a remedy; nothing if nothing was kept."""
        return f", and remove {self.root}; it holds the last checkpoint" if self.is_begun else ""

    @property
    def cfg(self) -> Path:
        """The network, at the trial's input size and number of classes."""
        return self.root / "network.cfg"

    @property
    def best_weights(self) -> Path:
        """Weights of the best evaluation; of the first one if several are equal."""
        return self.root / f"best{self.suffix}"

    @property
    def coming_best(self) -> Path:
        """The best weights until the state that speaks of them is on the disk."""
        return self.root / f".coming-best{self.suffix}"

    @property
    def last_weights(self) -> Path:
        """Weights of the newest evaluation."""
        return self.root / f"last{self.suffix}"

    def checkpoint(self, iteration: int) -> Path:
        """Weights after so many iterations."""
        return self.root / "checkpoints" / f"{iteration:06d}{self.suffix}"

    @property
    def events(self) -> Path:
        """For TensorBoard."""
        return self.root / "events"

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
        return self.root / "trial.json"

    def write(self, settings: TrialSettings, result: TrialResult | None) -> None:
        """Write trial.json."""
        write_record(self.record, settings, result)

    def read(self) -> tuple[TrialSettings, TrialResult | None]:
        """Read trial.json; None for a trial that is not finished.

        Raises:
            UserError: no such file, one of another version, or best weights that are not those it names.
        """
        settings, result = read_record(self.record, TrialSettings, TrialResult, "train the trial first")
        if result is not None:
            require_weights(self.best_weights, result)
        return settings, result

    def require_same(self, settings: TrialSettings) -> TrialResult | None:
        """Return the result, if any, of the trial that lies here; refuse to go on with other settings.

        One that ended before anything was kept may be begun with other settings.
        """
        if self.state.exists() and not self.record.is_file():
            remedy = f"restore it, or remove {self.root} and train again"
            raise refuse(self.record, f"not there, and {self.state.name} does not say what it is of", remedy)
        if not self.is_begun:
            return None
        before, result = self.read()
        require_equal(self.root, before, settings, "rename the experiment")
        return result

    def remove_leftovers(self) -> None:
        """Remove what a killed process left half-written."""
        for folder in (self.root, self.root / "checkpoints"):
            for name in ("state", "best", "last", "trial", "network", "[0-9]"):
                for leftover in folder.glob(f".{name}*-*"):
                    leftover.unlink()

    def settle_best(self) -> None:
        """Let the coming best weights be the best; the state that speaks of them is on the disk."""
        if self.coming_best.is_file():
            self.coming_best.replace(self.best_weights)

    def require_best(self, sha256: str) -> None:
        """Refuse best weights that are not those of the saved state; no state has none.

        A process that was killed may have left the coming ones: they are the best if the state speaks of them.
        """
        if self.coming_best.is_file() and file_sha256(self.coming_best) == sha256:
            self.settle_best()
        self.coming_best.unlink(missing_ok=True)
        if sha256 and not (self.best_weights.is_file() and file_sha256(self.best_weights) == sha256):
            remedy = f"restore it, or remove {self.root} and train again"
            raise refuse(self.best_weights, "not the file that the saved state speaks of", remedy)

    def sync_metrics(self) -> None:
        """Wait until every line of metrics.jsonl is on the disk."""
        if self.metrics.exists():
            with self.metrics.open("rb+") as file:
                os.fsync(file.fileno())

    def cut_metrics(self, length: int, evaluations: Sequence[dict[str, Any]]) -> int:
        """Forget the lines of metrics.jsonl that were written after its first `length` bytes; returns its length.

        Where a power cut took more, the evaluations that the saved state knows are written again.
        """
        content = self.metrics.read_bytes()[:length] if self.metrics.exists() else b""
        content = content[: content.rfind(b"\n") + 1]
        if len(content) < length:
            known = {
                row["evaluation"]["iteration"] for row in map(json.loads, content.splitlines()) if "evaluation" in row
            }
            lost = [{"evaluation": row} for row in evaluations if row["iteration"] not in known]
            content += b"".join((json.dumps(row) + "\n").encode() for row in lost)
        if content or self.metrics.exists():
            write_bytes(self.metrics, content)
        return len(content)

    def evaluations(self) -> tuple[Evaluation, ...]:
        """Every evaluation so far, in order."""
        return tuple(Evaluation(**row["evaluation"]) for row in self.rows() if "evaluation" in row)

    def rows(self) -> list[dict[str, Any]]:
        """Every line of metrics.jsonl.

        Raises:
            UserError: a line that is no JSON.
        """
        if not self.metrics.exists():
            return []
        try:
            return [json.loads(line) for line in self.metrics.read_text(encoding="utf-8").splitlines()]
        except ValueError:
            raise refuse(self.metrics, "holds a line that is no JSON", f"remove {self.root} and train again") from None
