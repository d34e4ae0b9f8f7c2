"""The verb that makes bundles."""

import json
from pathlib import Path

from pipeline.cli.app import ExperimentFile, Json, Root, app


@app.command(epilog="Example: skylight export experiments/facades.yaml")
def export(experiment: ExperimentFile, root: Root = Path(), as_json: Json = False) -> None:
    """Make the bundle of an experiment from its best trial, after checking that nothing changed on the way."""
    from pipeline.experiment import read_experiment
    from pipeline.steps import export_best
    from pipeline.workspace import Workspace

    bundle = export_best(read_experiment(experiment), Workspace(root))
    if as_json:
        print(json.dumps({"bundle": str(bundle.root), "provenance": bundle.provenance, "parity": bundle.parity}))
        return
    origin = bundle.provenance
    print(f"{bundle.root}: {origin['stage']}/{origin['trial']}, AP@0.5 on val {100 * origin['best_ap50']:.1f} %")
    print("PyTorch against ONNX Runtime: " + ", ".join(f"{key} {value:g}" for key, value in bundle.parity.items()))
