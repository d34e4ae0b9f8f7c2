"""What a trial keeps on the disk while it is trained: the state to resume from, weights, and figures.

The first process writes, the others only read the state. Knows nothing about how training is done, nor how good
weights are.
"""

import io
import json
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import refuse
from pipeline.files import file_sha256, write_bytes
from pipeline.networks.detector import Detector
from pipeline.train.records import Recorders
from pipeline.train.state import State
from pipeline.train.trial import TrialFolder, TrialResult, TrialSettings
from pipeline.train.update import MovingAverage, Updater

__all__ = ["Checkpoints"]


class Checkpoints:
    """Reads and writes the folder of a trial that is being trained."""

    def __init__(
        self,
        folder: TrialFolder,
        settings: TrialSettings,
        detector: Detector,
        updater: Updater,
        average: MovingAverage | None,
        is_first: bool,
    ) -> None:
        self._folder, self._settings, self._detector = folder, settings, detector
        self._updater, self._average = updater, average
        self._recorders = Recorders(folder, settings) if is_first else None
        self._saved_at = time.monotonic()
        self._is_finished = False

    @property
    def age(self) -> float:
        """Seconds since the state was saved, or training began."""
        return time.monotonic() - self._saved_at

    def load(self) -> State:
        """Take up the saved state, if there is one, and forget what was logged after it.

        Raises:
            UserError: a state that cannot be read, or best weights that are not those it speaks of.
        """
        if self._recorders:
            self._folder.remove_leftovers()
            self._folder.write(self._settings, None)
            self._detector.describe(self._folder.root)
        state = self._read() if self._folder.state.exists() else State()
        if self._recorders:
            self._folder.require_best(state.best_sha256)
            state.metrics_bytes = self._folder.cut_metrics(state.metrics_bytes, state.evaluations)
            self._recorders.begin(state.iteration)
        return state

    def _read(self) -> State:
        try:
            content = torch.load(self._folder.state, map_location="cpu", weights_only=True)
            state = State(**content["state"])
            self._detector.load_state_dict(content["network"])
            self._updater.load_state_dict(content["optimizer"])
            if self._average:
                self._average.load_state_dict(content["average"])
        except (RuntimeError, OSError, EOFError, pickle.UnpicklingError, KeyError, TypeError, ValueError):
            raise refuse(self._folder.state, "cannot be read", "remove it; the trial starts over") from None
        return state

    def save(self, state: State) -> None:
        """Save the state, complete or not at all; what it speaks of is on the disk before it."""
        if self._recorders:
            self._require_finite(state)
            self._folder.sync_metrics()
            content = {
                "network": self._detector.state_dict(),
                "optimizer": self._updater.state_dict(),
                "average": self._average.state_dict() if self._average else None,
                "state": asdict(state),
            }
            buffer = io.BytesIO()  # PyTorch itself would tell of a full disk by an error of its own kind
            torch.save(content, buffer)
            write_bytes(self._folder.state, buffer.getbuffer())
            self._folder.settle_best()
        self._saved_at = time.monotonic()

    @contextmanager
    def measured_weights(self, state: State) -> Iterator[None]:
        """The weights that are measured and kept, inside the block: the moving average where there is one."""
        self._require_finite(state)
        if self._average is None:
            yield
            return
        with self._average.applied():
            yield

    def write_last(self, state: State) -> None:
        """Write the weights as those of the newest evaluation."""
        self._write(self._folder.last_weights, state)

    def write_best(self, state: State) -> None:
        """Write the weights as the best so far, and note them in the state; they take their place when it is saved."""
        self._write(self._folder.coming_best, state)
        state.best_iteration = state.iteration
        state.best_sha256 = file_sha256(self._folder.coming_best)

    def write_numbered(self, state: State) -> None:
        """Write the weights into a file of their own."""
        path = self._folder.checkpoint(state.iteration)
        path.parent.mkdir(exist_ok=True)
        with self.measured_weights(state):
            self._write(path, state)

    def _write(self, path: Path, state: State) -> None:
        self._detector.save(path, state.iteration * self._settings.batch)

    def _require_finite(self, state: State) -> None:
        """Refuse weights that are not numbers any more, though the loss that led there was one."""
        for name, parameter in self._detector.named_parameters():
            if parameter.requires_grad and not torch.isfinite(parameter).all():
                remedy = f"lower learning_rate or add burn_in{self._folder.to_begin_anew}"
                raise refuse(self._folder.root, f"{name} is not finite after iteration {state.iteration}", remedy)

    def log(self, row: dict[str, Any], state: State) -> None:
        """Add a line to metrics.jsonl, and send its figures where they are recorded too."""
        if self._recorders is None:
            return
        line = (json.dumps(row) + "\n").encode()
        with self._folder.metrics.open("ab") as file:
            file.write(line)
        state.metrics_bytes += len(line)
        self._recorders.record(row)

    def finish(self, result: TrialResult) -> None:
        """Write the result into trial.json; the state is not needed any more, its size is."""
        self._folder.write(self._settings, result)
        self._folder.state.unlink(missing_ok=True)
        self._is_finished = True

    def close(self) -> None:
        """Write out what is pending."""
        if self._recorders:
            self._recorders.close(self._is_finished)
