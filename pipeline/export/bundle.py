"""A finished trial becomes a bundle. A script over the parts: choose, export, check, write."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.bundle import MODEL, Bundle, write_bundle
from deploy.manifest import Model
from pipeline.darknet import DarknetNetwork, load_weights, read_cfg
from pipeline.errors import refuse
from pipeline.experiment import Experiment, ExportChoice
from pipeline.export.gate import parity_of
from pipeline.export.golden import golden_files
from pipeline.export.keys import SigningKey
from pipeline.export.onnx import export_onnx
from pipeline.export.provenance import provenance_of
from pipeline.networks.darknet import DarknetDetector
from pipeline.train.stages import PlannedTrial

__all__ = ["best_trial", "export_bundle"]


def best_trial(choice: ExportChoice, plan: Sequence[PlannedTrial]) -> PlannedTrial:
    """The trial that `choice` names, or the one of its stage with the best AP on val.

    Raises:
        UserError: no such trial, or it is not finished.
    """
    trials = [trial for trial in plan if trial.stage.name == choice.stage]
    if choice.trial is not None:
        names = [trial.folder.root.name for trial in trials]
        trials = [trial for trial in trials if trial.folder.root.name == choice.trial]
        if not trials:
            raise refuse(f"export: trial {choice.trial}", "no such trial", f"allowed: {', '.join(names)}")
    results = [trial.folder.read()[1] for trial in trials]
    for trial, result in zip(trials, results, strict=True):
        if result is None:
            raise refuse(trial.folder.root, "is not finished", "run skylight train with this experiment first")
    scored = [(result.best_ap50, -i) for i, result in enumerate(results) if result]
    return trials[-max(scored)[1]]


def export_bundle(
    experiment: Experiment,
    trial: PlannedTrial,
    bundles: Path,
    key: SigningKey | None = None,
    board: Mapping[str, Any] | None = None,
) -> Bundle:
    """Export the best weights of `trial` into `bundles/<name>-<version>/`.

    key: signs the bundle; None leaves it unsigned. board: what the board's file says, at least its name.

    Raises:
        UserError: the exported model departs from the trained one; nothing is left then.
    """
    choice = experiment.export
    assert choice is not None
    settings, _ = trial.folder.read()
    if trial.network.cfg is None:
        raise refuse(trial.folder.root, f"network {trial.network.name}", "bundles are made of Darknet networks")
    network = DarknetNetwork(read_cfg(trial.folder.cfg))
    load_weights(network, trial.folder.best_weights)
    size = network.spec.input
    detector = DarknetDetector(network)
    exported = export_onnx(detector)
    images = trial.data.splits["val"]
    parity = parity_of(detector, exported, images, settings.resize)
    model = Model(MODEL, size.width, size.height, "fp32")
    golden = golden_files(
        {model: exported.model}, images, settings.resize, choice.score_threshold, choice.nms_threshold
    )
    manifest = {
        "name": choice.name,
        "version": choice.version,
        "classes": list(settings.classes),
        "models": [model._asdict()],
        "resize_mode": settings.resize,
        "colour_order": "rgb",
        "score_threshold": choice.score_threshold,
        "nms_threshold": choice.nms_threshold,
        "anchors": [list(pair) for pair in network.spec.heads[0].anchors],
        "masks": [list(head.mask) for head in network.spec.heads],
        "board": dict(board or {"name": "workstation"}),
        "provenance": provenance_of(experiment, trial),
        "parity": parity.as_dict(),
    }
    root = bundles / f"{choice.name}-{choice.version}"
    return write_bundle(root, {MODEL: exported.model, **golden}, manifest, key.sign if key else None)
