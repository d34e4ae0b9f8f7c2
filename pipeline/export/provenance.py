"""Where a trained network comes from: the trial, its start, the start of that, back to published weights or chance.

Reads records only; knows nothing of bundles. What is not known is None, never guessed.
"""

import json
import platform
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.curate import read_recipe
from pipeline.curated import CuratedSet, hash_curated_set, read_dataset_json
from pipeline.darknet.known import KNOWN_WEIGHTS, KnownWeights, known_weights, recognised
from pipeline.errors import UserError
from pipeline.experiment import Experiment
from pipeline.files import file_sha256
from pipeline.train.named import Trained
from pipeline.train.stages import PlannedTrial
from pipeline.train.trial import TrialFolder, TrialResult, TrialSettings

__all__ = ["provenance_of", "provenance_of_files", "provenance_of_folder"]

_LIBRARIES = (
    *("skylight", "torch", "torchvision", "ultralytics", "numpy", "opencv-python-headless"),
    *("onnx", "onnxruntime", "pynacl"),
)
_CHAIN_LIMIT = 20


def provenance_of(experiment: Experiment, trial: PlannedTrial) -> dict[str, Any]:
    """Everything that says where the best weights of a finished trial come from, for JSON.

    `chain` begins with the trial itself; each entry after it is what the one before started from, and the last has kind
    `published`, `random` or `file`.
    """
    settings, result = trial.folder.read()
    assert result is not None
    return _of_trial(settings, result, list(_chain(experiment, trial)))


def provenance_of_folder(trained: Trained, data: CuratedSet) -> dict[str, Any]:
    """The same of a finished trial without its experiment.

    data: what it is checked on; tells recipe and licences where the trial was trained on it. Those of the sets before
    it are not known.
    """
    assert trained.result is not None
    entry = _trial_entry(trained.settings, trained.result)
    if hash_curated_set(data.root) == trained.settings.data_hash:
        entry |= _set_entry(data.root, None)
    begun = _origin(trained.settings, None, _trained_nearby([trained.folder.root]), None)
    return _of_trial(trained.settings, trained.result, [entry, *begun])


def provenance_of_files(network: str, weights: Path) -> dict[str, Any]:
    """The same of a weights file that no trial of ours explains: published ones are known by their hash."""
    sha256 = file_sha256(weights)
    known = recognised(weights)
    entry = {"kind": "file", "name": weights.name, "sha256": sha256} if known is None else _known_entry(known, sha256)
    return {
        "network": Path(network).name,
        "weights_sha256": sha256,
        "licences": entry.get("licences", []),
        "chain": [entry],
        "versions": _versions(),
    }


def _of_trial(settings: TrialSettings, result: TrialResult, chain: list[dict[str, Any]]) -> dict[str, Any]:
    licences = {licence for entry in chain for licence in entry.get("licences", ())}
    return {
        "experiment": settings.experiment,
        "stage": settings.stage,
        "trial": settings.trial,
        "settings": settings.model_dump(mode="json"),
        "best_iteration": result.best_iteration,
        "best_ap50": result.best_ap50,
        "weights_sha256": result.best_weights_sha256,
        "data_hash": settings.data_hash,
        "seeds": [entry["seed"] for entry in chain if "seed" in entry],
        "licences": sorted(licences),
        "chain": chain,
        "machine": dict(sorted(result.machine.items())),
        "versions": _versions(),
    }


def _chain(experiment: Experiment, trial: PlannedTrial) -> Iterator[dict[str, Any]]:
    """Trials of the plan first, which know their sets; what they start from is then looked for by its hash."""
    seen: PlannedTrial | None = trial
    last = trial
    while seen is not None:
        settings, result = seen.folder.read()
        assert result is not None
        source = experiment.data[seen.stage.data]
        yield _trial_entry(settings, result) | _set_entry(seen.data.root, source.recipe)
        last, seen = seen, seen.after
    settings, _ = last.folder.read()
    known = known_weights(last.start.known) if last.start.known else None
    folders = [last.folder.root] + ([last.start.weights] if last.start.weights else [])
    yield from _origin(settings, known, _trained_nearby(folders), last.start.weights)


def _origin(
    settings: TrialSettings, known: KnownWeights | None, nearby: dict[str, TrialFolder], file: Path | None
) -> Iterator[dict[str, Any]]:
    """What a trial that no plan explains started from, and so on."""
    for _ in range(_CHAIN_LIMIT):
        sha256 = settings.start_sha256
        if sha256 is None:
            yield {"kind": "random", "seed": settings.seed}
            return
        known = known or next((entry for entry in KNOWN_WEIGHTS if entry.sha256 == sha256), None)
        if known is not None:
            yield _known_entry(known, sha256)
            return
        folder = nearby.pop(sha256, None)
        if folder is None:
            name = file.name if file is not None else settings.start
            yield {"kind": "file", "name": name, "sha256": sha256}
            return
        settings, result = folder.read()
        assert result is not None
        file = None
        yield _trial_entry(settings, result)


def _trial_entry(settings: TrialSettings, result: TrialResult) -> dict[str, Any]:
    return {
        "kind": "trial",
        "experiment": settings.experiment,
        "stage": settings.stage,
        "trial": settings.trial,
        "weights_sha256": result.best_weights_sha256,
        "start_sha256": settings.start_sha256,
        "start_layers": settings.start_layers,
        "network": Path(settings.network).name,
        "network_sha256": settings.network_sha256,
        "size": settings.size,
        "seed": settings.seed,
        "frozen": list(settings.frozen),
        "best_iteration": result.best_iteration,
        "iterations": result.iterations,
        "best_ap50": result.best_ap50,
        "data": settings.data,
        "data_hash": settings.data_hash,
    }


def _set_entry(root: Path, recipe_file: Path | None) -> dict[str, Any]:
    """What is known of the set that a trial was trained on; without the recipe's file, what curating wrote down."""
    about = read_dataset_json(root) or {}
    ledger = root / "ledger.parquet"
    entry: dict[str, Any] = {
        "licences": sorted(about.get("licences", ())),
        "ledger_sha256": file_sha256(ledger) if ledger.is_file() else None,
        "recipe": None,
    }
    if recipe_file is not None or about.get("recipe"):
        entry["recipe"] = {
            "name": about["name"] if recipe_file is None else read_recipe(recipe_file).name,
            "file": None if recipe_file is None else recipe_file.name,
            "sha256": about.get("recipe_sha256"),
            "content": about.get("recipe"),
            "git": None if recipe_file is None else _git(recipe_file.parent),
        }
    return entry


def _known_entry(known: KnownWeights, sha256: str) -> dict[str, Any]:
    return {
        "kind": "published",
        "name": known.name,
        "sha256": sha256,
        "trained_on": known.trained_on,
        "from": list(known.urls[:1]),
        "licences": [known.licence],
    }


def _trained_nearby(paths: list[Path]) -> dict[str, TrialFolder]:
    """Finished trials by the hash of their best weights: those of the folders runs/ that the paths lie in."""
    found: dict[str, TrialFolder] = {}
    trials = [trial for path in paths if (trial := TrialFolder.holding(path)) is not None]
    for runs in {trial.root.resolve().parents[2] for trial in trials}:
        for record in sorted(runs.glob("*/*/*/trial.json")):
            try:
                sha256 = json.loads(record.read_text())["result"]["best_weights_sha256"]
                folder = TrialFolder.existing(record.parent)
                folder.read()
            except (UserError, OSError, ValueError, KeyError, TypeError):
                continue  # not finished, or of another version: it explains nothing
            found.setdefault(sha256, folder)
    return found


def _git(folder: Path) -> dict[str, Any] | None:
    """The commit that last changed a folder, and whether it lies there as committed; None outside of git."""
    commit = _git_output(folder, "log", "-1", "--format=%H", "--", ".")
    if not commit:
        return None
    return {"commit": commit, "is_clean": _git_output(folder, "status", "--porcelain", "--", ".") == ""}


def _git_output(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
