"""The figures of a trial for TensorBoard and MLflow, beside metrics.jsonl. Knows nothing about how they came about.

TensorBoard's files lie in the trial's folder. MLflow is spoken to where MLFLOW_TRACKING_URI is set: a run per trial,
taken up again when the trial is.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import refuse
from pipeline.train.trial import TrialFolder, TrialSettings

__all__ = ["Recorders"]


class _Recorder(Protocol):
    def record(self, iteration: int, figures: dict[str, float]) -> None: ...

    def close(self, is_finished: bool) -> None: ...


class Recorders:
    """Everything that figures are sent to."""

    def __init__(self, folder: TrialFolder, settings: TrialSettings) -> None:
        self._folder, self._settings = folder, settings
        self._recorders: list[_Recorder] = []

    def begin(self, iteration: int) -> None:
        """Start, or go on after `iteration`; what was recorded after it no longer counts."""
        writer = _tensorboard(self._folder.events, iteration)
        self._recorders = [writer] if writer else []
        if os.environ.get("MLFLOW_TRACKING_URI"):
            self._recorders.append(_MLflow(self._folder, self._settings))

    def record(self, row: dict[str, Any]) -> None:
        """Send the figures of a line of metrics.jsonl."""
        content = row.get("evaluation", row)
        prefix = "val/" if "evaluation" in row else "train/"
        figures = {**content, **content.get("parts", {})}
        numbers = {
            f"{prefix}{k}": float(v) for k, v in figures.items() if isinstance(v, int | float) and k != "iteration"
        }
        for recorder in self._recorders:
            recorder.record(content["iteration"], numbers)

    def close(self, is_finished: bool) -> None:
        """Write out what is pending. is_finished: whether the trial is, or goes on another time."""
        for recorder in self._recorders:
            recorder.close(is_finished)


class _TensorBoard:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def record(self, iteration: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, iteration)

    def close(self, is_finished: bool) -> None:
        self._writer.close()


def _tensorboard(folder: Path, iteration: int) -> _TensorBoard | None:
    """None where TensorBoard is not installed: the figures are in metrics.jsonl all the same."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return _TensorBoard(SummaryWriter(str(folder), purge_step=iteration + 1))


class _MLflow:
    def __init__(self, folder: TrialFolder, settings: TrialSettings) -> None:
        try:
            import mlflow
        except ImportError:
            remedy = "install mlflow, or unset MLFLOW_TRACKING_URI"
            raise refuse("MLFLOW_TRACKING_URI", "mlflow is not installed", remedy) from None
        self._is_gone = False
        name = f"skylight/{settings.experiment}"
        try:
            self._client = mlflow.MlflowClient()
            experiment = self._client.get_experiment_by_name(name)
        except mlflow.MlflowException as error:
            address = os.environ["MLFLOW_TRACKING_URI"]
            found = " ".join(str(error).split())[:150]
            raise refuse(f"MLFLOW_TRACKING_URI={address}", found, "correct or unset it") from None
        number = experiment.experiment_id if experiment else self._new_experiment(name)
        tag = f"{settings.stage}/{settings.trial}"
        runs = self._client.search_runs([number], f"tags.`skylight.folder` = '{folder.root.resolve()}'", max_results=1)
        if runs:
            self._run = runs[0].info.run_id
            self._client.update_run(self._run, "RUNNING")
            return
        tags = {"skylight.folder": str(folder.root.resolve()), "mlflow.runName": tag}
        self._run = self._client.create_run(number, tags=tags).info.run_id
        for key, value in settings.model_dump(mode="json").items():
            self._client.log_param(self._run, key, str(value)[:500])

    def _new_experiment(self, name: str) -> str:
        import mlflow

        try:
            return str(self._client.create_experiment(name))
        except mlflow.MlflowException:  # another trial was quicker
            experiment = self._client.get_experiment_by_name(name)
            if experiment is None:
                raise
            return str(experiment.experiment_id)

    def record(self, iteration: int, figures: dict[str, float]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(name, value, 0, iteration) for name, value in figures.items()]
        self._say(lambda: self._client.log_batch(self._run, metrics))

    def close(self, is_finished: bool) -> None:
        self._say(lambda: self._client.set_terminated(self._run, "FINISHED" if is_finished else "KILLED"))

    def _say(self, message: Callable[[], object]) -> None:
        """Training does not end because a server does: what it misses is in metrics.jsonl."""
        import mlflow

        if self._is_gone:
            return
        try:
            message()
        except mlflow.MlflowException as error:
            self._is_gone = True
            print(f"MLflow is gone, training goes on: {' '.join(str(error).split())[:150]}", file=sys.stderr)
