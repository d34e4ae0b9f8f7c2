"""From the images that a recipe keeps to what networks that never saw them predict on them. A script over the parts.

Per fold a detector is trained on the other folds and finds objects on this one, and a small second network, trained on
the same boxes, says of every given box and of every found one how well it sits. What is finished stays on disk, so a
broken-off run goes on where it was.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pipeline.crosscheck.aligner import judge, train_aligner
from pipeline.crosscheck.folds import Material, fold_experiment, gather, lay_out
from pipeline.crosscheck.patches import background_boxes, cut_all
from pipeline.curate.examine import Examination
from pipeline.curate.labels import ImagePredictions, Predictions, write_predictions
from pipeline.curate.recipe import Recipe
from pipeline.curated import read_curated_set
from pipeline.experiment import Experiment
from pipeline.files import new_file, write_bytes
from pipeline.interrupt import Interrupted, StopRequest
from pipeline.train.dataset import load_images
from pipeline.train.loop import Step
from pipeline.train.metrics import detect
from pipeline.train.stages import PlannedTrial, plan_trials
from pipeline.train.sweep import run_trials
from pipeline.workspace import Workspace

__all__ = ["Report", "cross_check"]

Report = Callable[[str, int, int, str], None]  # what is being done, how many are done, out of how many, a note

_LEAST_SCORE = 0.05  # of a prediction: below it a network with few iterations says nothing
_NMS = 0.5
_ALIGNER_ITERATIONS = 2  # of the aligner, for each of the detector's: it is small, and sees a box at a time


def cross_check(recipe: Recipe, examined: Examination, folder: Path, stop: StopRequest, report: Report) -> Path:
    """Judge the labels of every image that `examined` keeps; returns the file of predictions in `folder`.

    Beside it `backbone.weights` is a network of one fold, whose features tell photos apart.

    Raises:
        UserError: too few images for the folds.
        Interrupted: `stop` was set; what is finished is kept.
    """
    material = gather(recipe, examined)
    work = folder / _name(recipe, material)
    for older in folder.glob("work-*"):
        if older != work:
            shutil.rmtree(older)  # other photos, boxes or settings: its networks say nothing about these
    folders = [work / "folds" / f"fold{fold}" for fold in range(recipe.labels.folds)]
    if not (work / "folds").is_dir():
        lay_out(recipe, material, work / "folds")
    experiment = fold_experiment(recipe, folders, "folds")
    trials = _train(experiment, Workspace(work), stop, report)
    found: Predictions = {}
    for fold in range(recipe.labels.folds):
        found |= _judge_fold(recipe, material, fold, trials[f"fold{fold}-cooled"], work, stop, report)
    write_bytes(folder / "backbone.weights", trials["fold0-cooled"].folder.best_weights.read_bytes())
    path = folder / "predictions.parquet"
    write_predictions(path, found)
    return path


def _name(recipe: Recipe, material: Material) -> str:
    """A folder for everything that depends on these photos, boxes and settings."""
    settings = [recipe.labels.folds, recipe.labels.iterations, recipe.labels.size, recipe.network.resize, recipe.seed]
    text = json.dumps([settings, material.keys, [part.tolist() for part in material.classes], material.fold.tolist()])
    return f"work-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _train(experiment: Experiment, workspace: Workspace, stop: StopRequest, report: Report) -> dict[str, PlannedTrial]:
    """Train the detectors that are not finished, and return the trials by stage."""
    plan = plan_trials(experiment, workspace)

    def on_step(trial: PlannedTrial, step: Step) -> None:
        report(f"train {trial.stage.name}", step.iteration, trial.stage.iterations, f"loss {step.loss:.2f}")

    for trial, result in run_trials(experiment, plan, workspace, stop, on_step):
        assert result is not None  # one process trains alone
        note = f"AP {100 * result.best_ap50:.1f} % on labels as they are"
        report(f"train {trial.stage.name}", trial.stage.iterations, trial.stage.iterations, note)
    return {trial.stage.name: trial for trial in plan}


def _judge_fold(
    recipe: Recipe, material: Material, fold: int, trial: PlannedTrial, work: Path, stop: StopRequest, report: Report
) -> Predictions:
    """What the two networks of a fold say about its images."""
    own = np.flatnonzero(material.fold == fold)
    boxes, scores, classes = _detections(recipe, material, own, trial)
    answers = work / f"aligner{fold}.npz"
    if not answers.is_file():
        network = _aligner(recipe, material, fold, stop, report)
        paths = [material.paths[index] for index in own]
        given = judge(network, torch.from_numpy(cut_all(paths, [material.boxes[index] for index in own])))
        with new_file(answers) as part:
            np.savez(part, given=given, found=judge(network, torch.from_numpy(cut_all(paths, boxes))))
    said = np.load(answers)
    shifts = np.split(said["given"][:, :2], np.cumsum([len(material.boxes[index]) for index in own])[:-1])
    objects = np.split(said["found"][:, 4], np.cumsum([len(part) for part in boxes])[:-1])
    return {
        material.keys[index]: ImagePredictions(
            shifts[place], boxes[place], scores[place], classes[place], objects[place]
        )
        for place, index in enumerate(own)
    }


def _detections(
    recipe: Recipe, material: Material, own: np.ndarray, trial: PlannedTrial
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Boxes as fractions of the photo, scores and classes on the images `own`, best first."""
    detector = trial.network.build()
    detector.load(trial.folder.best_weights)
    images = {image.image_id: image for image in read_curated_set(trial.data.root).splits["val"]}
    wanted = [images[material.image_ids[index]] for index in own]
    size = recipe.labels.size
    data = load_images(wanted, size, size, recipe.network.resize)
    found = detect(detector, data, threshold=_LEAST_SCORE, nms_threshold=_NMS)
    shares = [
        part.boxes / np.array([image.width, image.height] * 2, dtype=np.float64)
        for part, image in zip(found, wanted, strict=True)
    ]
    return shares, [part.scores.astype(np.float64) for part in found], [part.classes.astype(np.int64) for part in found]


def _aligner(recipe: Recipe, material: Material, fold: int, stop: StopRequest, report: Report) -> torch.nn.Module:
    others = [index for index in np.flatnonzero(material.fold != fold) if len(material.boxes[index])]
    paths = [material.paths[index] for index in others]
    boxes = [material.boxes[index] for index in others]
    random = np.random.default_rng([recipe.seed, fold])
    background = [background_boxes(part, len(part), random) for part in boxes]

    iterations = _ALIGNER_ITERATIONS * recipe.labels.iterations

    def on_step(done: int) -> None:
        report(f"align fold{fold}", done, iterations, "")
        if stop.is_set:
            raise Interrupted("the networks that are finished are kept; the same command goes on from there")

    return train_aligner(
        torch.from_numpy(cut_all(paths, boxes)),
        torch.from_numpy(cut_all(paths, background)),
        iterations,
        recipe.seed + fold,
        on_step,
    )
