"""The training loop: one trial from its start to its result, resumable at any moment.

What iteration i does depends on the seed and i alone, so that a resumed trial ends with the same numbers. Knows nothing
about other trials, nor which family its network is of.
"""

import gc
import platform
import time
from collections.abc import Callable, Collection
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import refuse
from pipeline.files import locked_folder
from pipeline.interrupt import Interrupted, StopQuestion
from pipeline.networks.detector import Detector
from pipeline.train.cache import open_cache
from pipeline.train.checkpoints import Checkpoints
from pipeline.train.curves import diagnose
from pipeline.train.dataset import ImageTensors
from pipeline.train.feed import Feed
from pipeline.train.graph import Captured
from pipeline.train.memory import keep_freed_memory, refuse_lack_of_memory
from pipeline.train.metrics import evaluate
from pipeline.train.processes import Processes
from pipeline.train.schedule import Schedule, learning_rate
from pipeline.train.state import State
from pipeline.train.trial import Evaluation, TrialFolder, TrialResult, TrialSettings
from pipeline.train.update import MovingAverage, Updater, autocast

__all__ = ["Runtime", "Step", "train_trial"]

_SAVE_EVERY = 30.0  # seconds between states saved beside those at evaluations
_LOG_EVERY = 10  # iterations


@dataclass(frozen=True)
class Runtime:
    """How a trial is run here, which changes no number but the seconds.

    Attributes:
        processes: that train it together.
        features: folder for features of frozen layers that do not fit into memory; None to keep none on the disk.
        most_features: bytes that they may take; by default a share of what is free. 0 keeps none.
        is_captured: run steps as a CUDA graph; the commands do not yet, the benchmark of GPUs does.
    """

    processes: Processes
    features: Path | None = None
    most_features: int | None = None
    is_captured: bool = False


@dataclass(frozen=True)
class Step:
    """What a progress bar shows: iterations done, smoothed loss per image, its parts, images per second, newest AP."""

    iteration: int
    loss: float
    parts: dict[str, float]
    images_per_second: float
    ap50: float | None


def train_trial(
    folder: TrialFolder,
    settings: TrialSettings,
    detector: Detector,
    trained: Collection[int],
    train: ImageTensors,
    val: ImageTensors | None,
    stop: StopQuestion,
    runtime: Runtime,
    on_step: Callable[[Step], None] | None = None,
) -> TrialResult | None:
    """Train `detector`, which holds the start's weights, or go on where the folder's state stands.

    Args:
        trained: layers whose weights were trained before.
        val: None to measure nothing; then the last weights are the best.
        stop: asked after every iteration; if set, the state is saved and Interrupted raised.

    Returns:
        The result; None in all processes but the first.

    Raises:
        UserError: the folder holds a trial with other settings or another process works in it, a loss that is not
            finite, a set without boxes, too little memory.
        Interrupted: after a stop; the same call goes on.
    """
    detector.require_trainable()
    if not (train.truth[..., 2] > 0).any():
        raise refuse(settings.data, "no box in the train split", "label at least one object")
    is_first = runtime.processes.is_first
    with locked_folder(folder.root) if is_first else nullcontext():
        finished = folder.require_same(settings) if is_first else None
        if runtime.processes.any(finished is not None):  # by another process, since it was looked at
            return finished
        try:
            with closing(_Trainer(folder, settings, detector, train, val, runtime)) as trainer:
                trainer.resume()
                trainer.run(stop, on_step)
                return trainer.finish(trained) if is_first else None
        except RuntimeError as error:
            refuse_lack_of_memory(error, settings.batch, settings.subdivisions, folder.to_begin_anew)
            raise


class _Trainer:
    def __init__(
        self,
        folder: TrialFolder,
        settings: TrialSettings,
        detector: Detector,
        train: ImageTensors,
        val: ImageTensors | None,
        runtime: Runtime,
    ) -> None:
        self.folder, self.settings, self.detector = folder, settings, detector
        self.train, self.val, self.runtime = train, val, runtime
        self.device, processes = next(detector.parameters()).device, runtime.processes
        if self.device.type == "cpu":
            keep_freed_memory()
        detector.freeze(settings.frozen)
        detector.to(memory_format=torch.channels_last)
        self.feed = Feed(train, settings.augment, settings.seed, self.device, processes.device_share)
        self.schedule = Schedule(len(train), settings.batch, settings.seed, settings.views)
        keeps = detector.has_trunk and settings.views
        self.cache = (
            open_cache(
                detector,
                self.feed,
                settings.views,
                settings.pictures_at_once,
                self._trunk,
                runtime.features,
                runtime.most_features,
                processes.host_share,
                processes.device_share,
            )
            if keeps
            else None
        )
        self.updater = Updater(
            detector,
            settings.precision,
            settings.momentum,
            settings.decay,
            settings.subdivisions,
            processes.count,
        )
        self.average = MovingAverage(detector, settings.ema) if settings.ema else None
        is_captured = runtime.is_captured and self.device.type == "cuda"
        self.learn = Captured(self._learn) if is_captured else self._learn
        self.state = State()
        self.pending: list[dict[str, Tensor]] = []  # losses that the device may not have computed yet
        self.checkpoints = Checkpoints(folder, settings, detector, self.updater, self.average, processes.is_first)

    def close(self) -> None:
        """Let go of files, threads and the device's memory."""
        self.feed.close()
        if self.cache:
            self.cache.close()
        self.checkpoints.close()
        del self.learn, self.updater, self.cache, self.checkpoints  # they hold each other, and the pictures
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()

    def resume(self) -> None:
        """Go on where the saved state stands, if there is one."""
        self.state = self.checkpoints.load()

    def run(self, stop: StopQuestion, on_step: Callable[[Step], None] | None) -> None:
        """Iterate to the end, or until asked to stop."""
        settings, state, processes = self.settings, self.state, self.runtime.processes
        while state.iteration < settings.iterations and not state.is_stopped_early:
            self._iterate()
            if on_step and processes.is_first:
                on_step(self._step())
            if processes.any(stop.is_set) and state.iteration < settings.iterations and not state.is_stopped_early:
                self._drain()
                self.checkpoints.save(self.state)
                raise Interrupted(
                    f"{self.folder.root}: kept up to iteration {state.iteration} of {settings.iterations}; "
                    "the same command goes on from there"
                )

    def _iterate(self) -> None:
        """Train on one batch; log, evaluate and save when it is time."""
        started = time.perf_counter()
        state, settings = self.state, self.settings
        rate = learning_rate(settings.learning_rate, settings.burn_in, settings.learning_rate_steps, state.iteration)
        self.updater.set_rate(rate)
        torch.manual_seed(settings.seed * 1_000_003 + state.iteration)  # for dropout and the like
        self.pending.append(self.learn(*self._inputs(state.iteration)))
        if self.average:
            self.average.update()
        state.iteration += 1
        state.dose += rate
        is_last = state.iteration == settings.iterations
        is_evaluated = is_last or state.iteration in settings.evaluate_at
        is_kept = settings.checkpoint_every and state.iteration % settings.checkpoint_every == 0
        is_logged = is_evaluated or is_kept or state.iteration % _LOG_EVERY == 0
        if is_logged or self.device.type == "cpu":
            self._drain()
        state.seconds += time.perf_counter() - started
        if is_logged:
            row = {"iteration": state.iteration, "loss": state.loss, **self._figures(rate)}
            self.checkpoints.log(row, state)
        if is_kept and self.runtime.processes.is_first:
            self.checkpoints.write_numbered(state)
        if is_evaluated:
            self._evaluate()
        if is_evaluated or self._is_time_to_save(is_logged):
            self._drain()
            self.checkpoints.save(state)

    def _is_time_to_save(self, is_logged: bool) -> bool:
        """Several processes, whose clocks differ, agree about it; they do so when they talk to each other anyway."""
        is_time = self.checkpoints.age > _SAVE_EVERY
        if self.runtime.processes.count == 1:
            return is_time
        return is_logged and self.runtime.processes.any(is_time)

    def _inputs(self, iteration: int) -> tuple[Tensor, ...]:
        """What this process learns from: features and boxes, or pictures, boxes and views."""
        own = self.runtime.processes.share(self.settings.batch)
        batch = self.schedule.batch(iteration).part(own)
        if self.cache:
            features, truth = self.cache.get(batch)
            return *features, truth
        is_last = iteration + 1 == self.settings.iterations or self.feed.is_resident
        return self.feed.raw(batch, None if is_last else self.schedule.batch(iteration + 1).part(own))

    def _learn(self, *inputs: Tensor) -> dict[str, Tensor]:
        return self.updater.learn(inputs, None if self.cache else self._prepare)

    def _prepare(self, *raw: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Features and truth of one subdivision's pictures."""
        pixels, truth = self.feed.augmented(raw)  # type: ignore[arg-type]
        return self._trunk(pixels), truth

    def _trunk(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """The frozen layers, in the precision of training."""
        with autocast(self.device, self.settings.precision):
            return self.detector.trunk(pixels.contiguous(memory_format=torch.channels_last))

    def _drain(self) -> None:
        """Read the losses of the iterations since the last time; the device has computed them then."""
        if not self.pending:
            return
        names = list(self.pending[0])
        rows = torch.stack([torch.stack([losses[name] for name in names]) for losses in self.pending])
        rows = self.runtime.processes.mean(rows).cpu()
        first = self.state.iteration - len(self.pending)
        self.pending = []
        for offset, row in enumerate(rows):
            if not torch.isfinite(row).all():
                self._refuse_loss(first + offset, float(row.sum()))
            self.state.take_loss(first + offset, dict(zip(names, row.tolist(), strict=True)))

    def _refuse_loss(self, iteration: int, loss: float) -> None:
        images = self.schedule.batch(iteration).images
        names = ", ".join(self.train.sources[index].image_id for index in images[:4])
        raise refuse(
            self.folder.root,
            f"the loss is {loss} at iteration {iteration + 1} (pictures {names}, ...)",
            f"lower learning_rate or add burn_in{self.folder.to_begin_anew}",
        )

    def _evaluate(self) -> None:
        """Measure, keep the weights, and see whether it is enough; the first process does it for all."""
        state, settings = self.state, self.settings
        if self.runtime.processes.is_first:
            with self.checkpoints.measured_weights(state):
                self._measure()
                self.checkpoints.write_last(state)
        is_last, rule = state.iteration == settings.iterations, settings.stop_early
        is_enough = not is_last and rule is not None and state.has_levelled_off(rule, settings.best_by)
        state.is_stopped_early = self.runtime.processes.any(is_enough)

    def _measure(self) -> None:
        state, settings = self.state, self.settings
        if self.val is None:
            self.checkpoints.write_best(state)
            return
        scores = evaluate(self.detector, self.val, settings.classes, settings.pictures_at_once)
        row = Evaluation(
            iteration=state.iteration,
            seconds=state.seconds,
            dose=state.dose,
            ap50=scores.ap50,
            coco_map=scores.coco_map,
            precision=scores.precision,
            recall=scores.recall,
            f1=scores.f1,
            train_loss=state.loss,
            loss=scores.as_dict()["loss"],
        )
        self.checkpoints.log({"evaluation": asdict(row), "scores": scores.as_dict()}, state)
        state.evaluations.append(asdict(row))
        figure = getattr(scores, settings.best_by)
        if figure > state.best:
            state.best, state.best_ap50 = figure, scores.ap50
            self.checkpoints.write_best(state)

    def _step(self) -> Step:
        """What there is to show now."""
        state = self.state
        ap50 = state.evaluations[-1]["ap50"] if state.evaluations else None
        return Step(state.iteration, state.loss, state.parts, state.images_per_second(self.settings.batch), ap50)

    def finish(self, trained: Collection[int]) -> TrialResult:
        """Write the result."""
        now_trained = set(trained) | (set(self.detector.weighted_layers) - set(self.detector.frozen))
        curves = [(row["iteration"], row["train_loss"], row["loss"]) for row in self.state.evaluations]
        result = TrialResult(
            iterations=self.state.iteration,
            stopped_early=self.state.is_stopped_early,
            best_iteration=self.state.best_iteration,
            best_ap50=self.state.best_ap50,
            best_weights_sha256=self.state.best_sha256,
            seconds=self.state.seconds,
            dose=self.state.dose,
            images_per_second=self.state.images_per_second(self.settings.batch),
            frozen_layers=self.detector.frozen,
            trained_layers=tuple(sorted(now_trained)),
            feature_cache=self.cache.place if self.cache else None,
            diagnosis=str(diagnose(curves)),
            machine={
                "processor": platform.processor() or platform.machine(),
                "device": torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu",
                "processes": str(self.runtime.processes.count),
                "threads": str(torch.get_num_threads()),
                "torch": torch.__version__,
            },
        )
        self.checkpoints.finish(result)
        return result

    def _figures(self, rate: float) -> dict[str, Any]:
        state = self.state
        return {
            "parts": state.parts,
            "learning_rate": rate,
            "seconds": round(state.seconds, 3),
            "dose": state.dose,
            "images_per_second": round(state.images_per_second(self.settings.batch), 2),
        }
