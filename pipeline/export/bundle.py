"""A finished trial becomes a bundle. A script over the parts: choose, export, check, write."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from deploy.bundle import Bundle, write_bundle
from pipeline.curated import read_dataset_json
from pipeline.darknet import DarknetNetwork, load_weights, read_cfg
from pipeline.errors import refuse
from pipeline.experiment import ExportChoice
from pipeline.export.gate import parity_of
from pipeline.export.onnx import export_onnx
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


def export_bundle(choice: ExportChoice, trial: PlannedTrial, bundles: Path) -> Bundle:
    """Export the best weights of `trial` into `bundles/<name>-<version>/`.

    Raises:
        UserError: the exported model departs from the trained one; nothing is left then.
    """
    settings, result = trial.folder.read()
    assert result is not None
    if trial.network.cfg is None:
        raise refuse(trial.folder.root, f"network {trial.network.name}", "bundles are made of Darknet networks")
    network = DarknetNetwork(read_cfg(trial.folder.cfg))
    load_weights(network, trial.folder.best_weights)
    size = network.spec.input
    detector = DarknetDetector(network)
    exported = export_onnx(detector)
    parity = parity_of(detector, exported, trial.data.splits["val"], settings.resize)
    about = read_dataset_json(trial.data.root) or {}
    manifest = {
        "name": choice.name,
        "version": choice.version,
        "classes": list(settings.classes),
        "width": size.width,
        "height": size.height,
        "resize_mode": settings.resize,
        "colour_order": "rgb",
        "score_threshold": choice.score_threshold,
        "nms_threshold": choice.nms_threshold,
        "anchors": [list(pair) for pair in network.spec.heads[0].anchors],
        "masks": [list(head.mask) for head in network.spec.heads],
        "board": "workstation",
        "provenance": {
            "experiment": settings.experiment,
            "stage": settings.stage,
            "trial": settings.trial,
            "settings": settings.model_dump(mode="json"),
            "best_iteration": result.best_iteration,
            "best_ap50": result.best_ap50,
            "weights_sha256": hashlib.sha256(trial.folder.best_weights.read_bytes()).hexdigest(),
            "data_hash": settings.data_hash,
            "licences": about.get("licences", []),
            "versions": {name: version(name) for name in ("skylight", "torch", "onnx", "onnxruntime")},
        },
        "parity": parity.as_dict(),
    }
    return write_bundle(bundles / f"{choice.name}-{choice.version}", {"model.onnx": exported.model}, manifest)
