"""The same network for the same iterations on uncurated and on curated photos, tested on labels without defects.

    python tests/benchmarks/bench_curated_training.py ../shared/data/facades --root /tmp/defects

Uncurated is every photo with a box of the class, labels as they are. Both sets split alike, so that neither has seen
the test photos: those of the uncurated set's test split, with the boxes of truth/, except photos whose pixels were
changed. The weights after the last iteration are tested, so that no val split with defects chooses.
"""

import argparse
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from measure import write_result
from planted import read_planted, true_boxes

from pipeline.curate import Inputs, Recipe, curate, read_recipe
from pipeline.curated import LabelledImage, read_curated_set
from pipeline.curating import curation_inputs
from pipeline.experiment import DataSource, Experiment, Stage
from pipeline.interrupt import stop_on_signals
from pipeline.progress import Bars
from pipeline.train.dataset import load_images
from pipeline.train.metrics import evaluate
from pipeline.train.stages import plan_trials
from pipeline.train.sweep import run_trials
from pipeline.workspace import Workspace

RECIPE = Path(__file__).resolve().parents[2] / "datasets" / "facades.yaml"
CHANGED_PIXELS = {"blurred", "duplicate_of", "depiction"}


def main() -> None:
    """Train both, print AP of every seed, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument(
        "--root", type=Path, default=Path("defects"), help="where bench_defects.py left its cross-check"
    )
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "curated_training.json")
    options = parser.parse_args()
    workspace = Workspace(options.root)
    recipe = read_recipe(options.recipe)
    sets = {
        "uncurated": curate(_uncurated(recipe), Inputs(options.source), workspace.data / "uncurated").root,
        "curated": curate(
            recipe, curation_inputs(options.recipe, recipe, options.source, workspace), workspace.data / recipe.name
        ).root,
    }
    test = _clean_test(options.source, recipe.classes[0], sets)
    experiment = Experiment(
        name="curated-training",
        size=options.size,
        burn_in=50,
        seeds=tuple(range(options.seeds)),
        data={name: DataSource(path=root.resolve()) for name, root in sets.items()},
        stages=tuple(Stage(name=name, data=name, iterations=options.iterations) for name in sets),
    )
    results = _train(experiment, workspace, test, recipe.output_classes)
    counts = {name: len(read_curated_set(root).splits["train"]) for name, root in sets.items()}
    for name, scores in results.items():
        each = ", ".join(f"{100 * score:.1f}" for score in scores)
        print(f"{name:10} {counts[name]:4} photos: AP@0.5 {100 * statistics.mean(scores):.1f} % (seeds: {each})")
    print(f"tested on {len(test)} photos with {sum(len(image.boxes) for image in test)} boxes of the truth")
    write_result(
        options.out,
        sys.argv,
        {
            "ap50": results,
            "train_photos": counts,
            "test_photos": len(test),
            "iterations": options.iterations,
            "size": options.size,
        },
    )


def _uncurated(recipe: Recipe) -> Recipe:
    """The same classes, split and seed, and no rule."""
    return Recipe(
        name="uncurated",
        licence=recipe.licence,
        source=recipe.source,
        classes=recipe.classes,
        drop_flags=(),
        split=recipe.split,
        seed=recipe.seed,
    )


def _clean_test(source: Path, class_name: str, sets: dict[str, Path]) -> list[LabelledImage]:
    """Photos that neither set was trained or chosen on, with the boxes of the truth."""
    truth, planted = true_boxes(source, class_name), read_planted(source, class_name)
    curated = {name: read_curated_set(root) for name, root in sets.items()}
    used = {image.image_id for one in curated.values() for split in ("train", "val") for image in one.splits[split]}
    images = []
    for image in curated["uncurated"].splits["test"]:
        if image.image_id in used or planted.defect.get(image.image_id) in CHANGED_PIXELS:
            continue
        boxes = (truth[image.image_id] * ([image.width, image.height] * 2)).astype(np.float32)
        images.append(replace(image, boxes=boxes, classes=np.zeros(len(boxes), dtype=np.int64)))
    return images


def _train(
    experiment: Experiment, workspace: Workspace, test: list[LabelledImage], classes: tuple[str, ...]
) -> dict[str, list[float]]:
    data = load_images(test, experiment.size, experiment.size, experiment.resize)
    scores: dict[str, list[float]] = {stage.name: [] for stage in experiment.stages}
    with Bars() as bars, stop_on_signals() as stop:
        plan = plan_trials(experiment, workspace)
        report = lambda trial, step: bars.show(trial.name, step.iteration, trial.stage.iterations)  # noqa: E731
        for trial, _ in run_trials(experiment, plan, workspace, stop, report):
            detector = trial.network.build()
            detector.load(trial.folder.last_weights)
            scores[trial.stage.name].append(evaluate(detector, data, classes).ap50)
    return scores


if __name__ == "__main__":
    main()
