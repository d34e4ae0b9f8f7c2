"""One trial on disk, `runs/<experiment>/<stage>/<start>-f<freeze>-s<seed>/`: its files, its settings, its state.

    trial.json      settings, and the result once it is finished
    metrics.jsonl   a line per ten iterations and per evaluation
    network.cfg     best.weights  last.weights      for any Darknet tool
    state.pt        what resuming needs

Knows nothing about how training is done.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from pipeline.curated import file_sha256
from pipeline.errors import refuse
from pipeline.experiment import Augment
from pipeline.files import write_json

__all__ = ["Evaluation", "TrialFolder", "TrialResult", "TrialSettings"]


class TrialSettings(BaseModel):
    """Everything that decides a trial's numbers. Two trials of equal settings on one machine give equal weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    experiment: str
    stage: str
    start: str
    start_sha256: str | None
    start_layers: int | None
    freeze: int
    seed: int
    cfg_sha256: str
    classes: tuple[str, ...]
    data: str
    data_hash: str
    resize: str
    iterations: int
    evaluate_at: tuple[int, ...]
    batch: int
    learning_rate: float
    momentum: float
    decay: float
    burn_in: int
    batch_norm_momentum: float
    loss: Literal["alexeyab", "original"]
    precision: Literal["float32", "bfloat16"]
    augment: Augment

    @property
    def trial(self) -> str:
        """Name of the trial's folder."""
        return f"{self.start}-f{self.freeze}-s{self.seed}"


@dataclass(frozen=True)
class Evaluation:
    """AP on the val split after `iteration` batches, `seconds` of training and a `dose` of summed learning rate."""

    iteration: int
    seconds: float
    dose: float
    ap50: float
    coco_map: float


class TrialResult(BaseModel):
    """What a finished trial leaves to later stages and to the report."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    best_iteration: int
    best_ap50: float
    best_weights_sha256: str
    seconds: float
    dose: float
    images_per_second: float
    frozen_layers: tuple[int, ...]
    trained_layers: tuple[int, ...]
    machine: dict[str, str]


@dataclass(frozen=True)
class TrialFolder:
    """Paths and records of one trial."""

    root: Path

    @property
    def cfg(self) -> Path:
        """The network, at the trial's input size and number of classes."""
        return self.root / "network.cfg"

    @property
    def best_weights(self) -> Path:
        """Weights of the evaluation with the highest AP; of the first one if several are equal."""
        return self.root / "best.weights"

    @property
    def last_weights(self) -> Path:
        """Weights of the newest evaluation."""
        return self.root / "last.weights"

    @property
    def state(self) -> Path:
        """What resuming needs."""
        return self.root / "state.pt"

    @property
    def metrics(self) -> Path:
        """One JSON object per line."""
        return self.root / "metrics.jsonl"

    def write(self, settings: TrialSettings, result: TrialResult | None) -> None:
        """Write trial.json."""
        content = {"settings": settings.model_dump(mode="json")}
        content["result"] = result.model_dump(mode="json") if result else None  # type: ignore[assignment]
        write_json(self.root / "trial.json", content)

    def read(self) -> tuple[TrialSettings, TrialResult | None]:
        """Read trial.json; None for a trial that is not finished.

        Raises:
            UserError: no such file, one of another version, or best weights that are not those it names.
        """
        path = self.root / "trial.json"
        try:
            content = json.loads(path.read_text())
            settings = TrialSettings.model_validate(content["settings"])
            result = None if content["result"] is None else TrialResult.model_validate(content["result"])
        except FileNotFoundError:
            raise refuse(path, "no such file", "train the trial first") from None
        except (ValueError, KeyError, TypeError):
            raise refuse(
                path, "is not what this version of Skylight writes", "remove the folder, train again"
            ) from None
        if result is not None:
            self._require_weights(result)
        return settings, result

    def _require_weights(self, result: TrialResult) -> None:
        try:
            found = file_sha256(self.best_weights)
        except OSError as error:
            found = error.strerror or str(error)
        if found != result.best_weights_sha256:
            raise refuse(
                self.best_weights,
                f"not the file that training wrote ({found[:12]}, trial.json says {result.best_weights_sha256[:12]})",
                f"restore it, or remove {self.root} and train again",
            )

    def require_same(self, settings: TrialSettings) -> TrialResult | None:
        """Return the result, if any, of the trial that lies here; refuse to go on with other settings."""
        if not (self.root / "trial.json").exists():
            return None
        before, result = self.read()
        old, new = before.model_dump(mode="json"), settings.model_dump(mode="json")
        for key, value in old.items():
            if new[key] != value:
                raise refuse(
                    self.root,
                    f"was trained with {key}={_short(value)}, now {key}={_short(new[key])}",
                    "undo the change, remove the folder, or rename the experiment",
                )
        return result

    def evaluations(self) -> tuple[Evaluation, ...]:
        """Every evaluation so far, in order."""
        return tuple(Evaluation(**row["evaluation"]) for row in self.rows() if "evaluation" in row)

    def rows(self) -> list[dict[str, Any]]:
        """Every line of metrics.jsonl."""
        if not self.metrics.exists():
            return []
        try:
            return [json.loads(line) for line in self.metrics.read_text(encoding="utf-8").splitlines()]
        except ValueError:
            raise refuse(self.metrics, "holds a line that is no JSON", f"remove {self.root} and train again") from None


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 70 else text[:67] + "..."
