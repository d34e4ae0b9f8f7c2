"""Simple rules that advice must beat: each names an arm of a case, or arms with the chance of each.

A rule with a threshold takes the one that would have served best on the other targets.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from advice_cases import Case
from advice_knn import knn_accuracy
from relative_gradient import relative_gradients

from pipeline.curated import read_curated_set
from pipeline.experiment import Experiment
from pipeline.networks.detector import Detector
from pipeline.score.difference import vector_difference
from pipeline.score.probes import Probe
from pipeline.score.similarity import measure_similarity
from pipeline.train.dataset import load_images
from pipeline.train.stages import PlannedTrial, plan_trials
from pipeline.workspace import Workspace, probing

__all__ = ["RULES", "Signals", "read_signals"]

_FROZEN = {"0": 0, "13": 13, "20": 20}

Others = Sequence[tuple["Signals", dict[str, float]]]  # of other targets, with the AP of every arm
Rule = Callable[["Signals", Others], dict[str, float]]


@dataclass(frozen=True)
class Signals:
    """What rules go by, of one case: by start, and by layer where it says so.

    Attributes:
        arms: that may be chosen.
        similarity: of the start (see score/similarity.py). accuracy: of k-NN on its features (see advice_knn.py).
        gradients: relative gradient norm by layer.
        differences: |1 - cos| by layer, after a short training with nothing frozen. nulls: the same of the start's
            training going on for as long on its own data.
    """

    arms: tuple[str, ...]
    photos: int
    similarity: dict[str, float]
    accuracy: dict[str, float]
    gradients: dict[str, dict[int, float]]
    differences: dict[str, dict[int, float]]
    nulls: dict[str, dict[int, float]]


def read_signals(
    case: Case, experiment: Experiment, probes: Sequence[Probe], null: Experiment, workspace: Workspace
) -> Signals:
    """Measure what the rules go by; probes: of the first round; null: trained."""
    photos = read_curated_set(case.data).splits["train"]
    data = load_images(photos, experiment.size, experiment.size, experiment.resize)
    nulls = {trial.start.name: trial for trial in plan_trials(null, workspace)}
    similarity, accuracy, gradients, differences, null_differences = {}, {}, {}, {}, {}
    for trial in _unfrozen(experiment, workspace):
        start = trial.start
        assert start.weights is not None
        begun = _loaded(trial, start.weights, start.layers)
        layers = [index for index in trial.trained if index < begun.backbone]
        similarity[start.name] = measure_similarity(begun, layers, data.images[:32], None).value
        accuracy[start.name] = knn_accuracy(begun, photos)
        gradients[start.name] = relative_gradients(begun, data, batch=8, batches=4)
        short = next(probe for probe in probes if probe.arm.name == trial.arm)
        differences[start.name] = _differences(begun, _loaded(trial, _weights_of(short, workspace, experiment), None))
        other = nulls[start.name]
        null_differences[start.name] = _differences(
            _loaded(other, start.weights, None), _loaded(other, other.folder.last_weights, None)
        )
    return Signals(
        arms=tuple(probe.arm.name for probe in probes),
        photos=case.photos,
        similarity=similarity,
        accuracy=accuracy,
        gradients=gradients,
        differences=differences,
        nulls=null_differences,
    )


def _unfrozen(experiment: Experiment, workspace: Workspace) -> list[PlannedTrial]:
    """The trials from weights with nothing frozen, one of each start."""
    plan = plan_trials(experiment, workspace)
    return [trial for trial in plan if not trial.frozen and trial.start.weights is not None]


def _loaded(trial: PlannedTrial, weights: Path, layers: int | None) -> Detector:
    torch.manual_seed(trial.seed)
    detector = trial.network.build()
    detector.load(weights, layers)
    return detector


def _weights_of(probe: Probe, workspace: Workspace, experiment: Experiment) -> Path:
    stage = workspace.stage(probing(experiment.name), f"target-{probe.iterations}")
    return next(stage.glob(f"{probe.arm.name}-s*")) / "last.weights"


def _differences(before: Detector, after: Detector) -> dict[int, float]:
    """|1 - cos| of the kernels of every layer."""
    found = {}
    for old, new in zip(before.network_layers, after.network_layers, strict=True):
        kernels = [getattr(layer.module, "weight", None) for layer in (old, new)]
        if old.has_weights:
            before_after = (kernel.detach().numpy() for kernel in kernels if isinstance(kernel, torch.Tensor))
            found[old.index] = vector_difference(*before_after)
    return found


def _latest(signals: Signals, _: Others) -> dict[str, float]:
    return {"windows-f0": 1.0}


def _random(signals: Signals, _: Others) -> dict[str, float]:
    return dict.fromkeys(signals.arms, 1 / len(signals.arms))


def _nearest(signals: Signals, others: Others) -> dict[str, float]:
    """The best arm of the nearest case, by the logarithm of the number of photos and by similarity."""

    def place(one: Signals) -> np.ndarray:
        return np.array([np.log10(one.photos), *one.similarity.values()])

    near = min(others, key=lambda other: float(np.linalg.norm(place(other[0]) - place(signals))))
    return {max(near[1], key=lambda arm: near[1][arm]): 1.0}


def _by_difference(signals: Signals, others: Others) -> dict[str, float]:
    return _least_and_freeze(signals, others, lambda one: one.differences)


def _by_corrected_difference(signals: Signals, others: Others) -> dict[str, float]:
    def corrected(one: Signals) -> dict[str, dict[int, float]]:
        return {
            start: {index: value / max(one.nulls[start][index], 1e-12) for index, value in layers.items()}
            for start, layers in one.differences.items()
        }

    return _least_and_freeze(signals, others, corrected)


def _by_gradient(signals: Signals, others: Others) -> dict[str, float]:
    return _least_and_freeze(signals, others, lambda one: one.gradients)


def _by_neighbours(signals: Signals, others: Others) -> dict[str, float]:
    """What features cannot tell must be learned: its error stands for the layers' wish to move, whatever the layer."""

    def error(one: Signals) -> dict[str, dict[int, float]]:
        return {start: dict.fromkeys(range(20), 1 - value) for start, value in one.accuracy.items()}

    return _least_and_freeze(signals, others, error)


def _least_and_freeze(
    signals: Signals, others: Others, measure: Callable[[Signals], dict[str, dict[int, float]]]
) -> dict[str, float]:
    """The start whose backbone has the smaller mean, frozen as far as the layers' mean stays below a threshold."""

    def choose(one: Signals, threshold: float) -> str:
        by_start = measure(one)
        start = min(by_start, key=lambda name: _mean(by_start[name], 13))
        counts = [
            label
            for label, count in _FROZEN.items()
            if f"{start}-f{label}" in one.arms and (not count or _mean(by_start[start], count) < threshold)
        ]
        return f"{start}-f{counts[-1]}"

    candidates = sorted({_mean(layers, 13) for one, _ in others for layers in measure(one).values()})
    best = max(
        [0.0, *candidates, float("inf")], key=lambda t: statistics.mean(ap50[choose(one, t)] for one, ap50 in others)
    )
    return {choose(signals, best): 1.0}


def _mean(layers: dict[int, float], below: int) -> float:
    return statistics.mean(value for index, value in layers.items() if index < below)


RULES: dict[str, Rule] = {
    "latest stage, nothing frozen": _latest,
    "random": _random,
    "layer difference": _by_difference,
    "layer difference over the null": _by_corrected_difference,
    "gradient norm": _by_gradient,
    "k-NN on features": _by_neighbours,
    "nearest case": _nearest,
}
