"""What `skylight curate` does, with bars: the sets of recipes, checked by networks and by a person. Prints nothing."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.curate import (
    CurationSummary,
    Inputs,
    Progress,
    Recipe,
    curate,
    examine_source,
    explain,
    is_recipe,
    read_recipe,
)
from pipeline.curated import read_curated_set
from pipeline.errors import refuse
from pipeline.experiment import Experiment, read_experiment
from pipeline.interrupt import stop_on_signals
from pipeline.progress import Bars
from pipeline.workspace import Workspace

__all__ = [
    "add_flight",
    "cross_check_recipe",
    "curate_recipe",
    "curate_sets",
    "curation_inputs",
    "curation_text",
    "explanations",
    "recipes_of",
    "run_curation",
]


def recipes_of(file: Path, source: Path | None) -> list[tuple[Path, Path | None]]:
    """The recipe files that `file`, a recipe or an experiment, names, each with its source; all are checked.

    Raises:
        UserError: a file that is wrong, or a source for an experiment, which names its own.
    """
    if is_recipe(file):
        read_recipe(file)
        return [(file, source)]
    if source is not None:
        raise refuse("--source", f"{file} is an experiment", "its key data names the source of every recipe")
    return _recipes_in(read_experiment(file))


def _recipes_in(experiment: Experiment) -> list[tuple[Path, Path | None]]:
    """Recipes and sources; a set that is given by its path is read, so that what is wrong with it shows now."""
    for entry in experiment.data.values():
        if entry.path is not None:
            read_curated_set(entry.path)
    return [(entry.recipe, entry.source) for entry in experiment.data.values() if entry.recipe is not None]


def curate_sets(experiment: Experiment, workspace: Workspace, bars: Bars) -> list[CurationSummary]:
    """Make every set that has a recipe."""
    return run_curation(_recipes_in(experiment), workspace, bars)


def run_curation(
    recipes: Sequence[tuple[Path, Path | None]],
    workspace: Workspace,
    bars: Bars,
    cross_check: bool = False,
    review_port: int | None = None,
) -> list[CurationSummary]:
    """Make the set of every recipe file from its source, after checking labels and asking a person where wanted.

    review_port: where FiftyOne is served for the review; None for no review.

    Raises:
        UserError: a recipe, a source or a set that is wrong, with where.
    """
    summaries = []
    for path, source in recipes:
        if cross_check:
            cross_check_recipe(path, source, workspace, bars)
        if review_port is not None:
            _review_recipe(path, source, workspace, bars, review_port)
        summaries.append(curate_recipe(path, source, workspace, bars))
    return summaries


def explanations(recipes: Sequence[tuple[Path, Path | None]], image_id: str, workspace: Workspace) -> str:
    """The story of an image in the set of each recipe.

    Raises:
        UserError: a set that was not curated yet, or no such image in one.
    """
    stories = []
    for path, _ in recipes:
        name = read_recipe(path).name
        stories.append(f"{workspace.data / name}: {explain(workspace.data / name, image_id)}")
    return "\n".join(stories)


def curate_recipe(path: Path, source: Path | None, workspace: Workspace, bars: Bars) -> CurationSummary:
    """Make the set of one recipe file: data/SET.

    Raises:
        UserError: see `pipeline.curate.curate`.
    """
    recipe = read_recipe(path)
    inputs = curation_inputs(path, recipe, source, workspace)
    return curate(recipe, inputs, workspace.data / recipe.name, _reporter(recipe, bars))


def curation_inputs(path: Path, recipe: Recipe, source: Path | None, workspace: Workspace) -> Inputs:
    """Where what belongs to the recipe file at `path` lies: what a person said beside it, the rest in the cache."""
    checked = workspace.cross_check(recipe.name)
    return Inputs(
        source=source,
        cache=workspace.cache,
        overrides=path.with_name(f"{path.stem}.review.csv"),
        flights=tuple(sorted(folder for folder in workspace.flights(recipe.name).glob("*") if folder.is_dir())),
        predictions=checked / "predictions.parquet",
        backbone=checked / "backbone.weights",
    )


def cross_check_recipe(path: Path, source: Path | None, workspace: Workspace, bars: Bars) -> Path:
    """Train networks that never saw what they judge, and keep their predictions for the next `curate_recipe`.

    Raises:
        UserError: the recipe has no limit that it would serve, or too few images.
    """
    from pipeline.crosscheck import cross_check

    recipe = read_recipe(path)
    if not recipe.labels.is_asked:
        raise refuse(f"{path}: labels", "no limit", "give shifted_band, missing or merged, or leave out --cross-check")
    inputs = curation_inputs(path, recipe, source, workspace)
    unchecked = recipe.model_copy(update={"labels": recipe.labels.without_limits(), "select": None})
    examined = examine_source(unchecked, replace(inputs, predictions=None), _reporter(recipe, bars))

    def report(what: str, done: int, total: int, note: str) -> None:
        bars.show(f"{recipe.name}: {what}", done, total, note)

    with stop_on_signals() as stop:
        return cross_check(recipe, examined, workspace.cross_check(recipe.name), stop, report)


def add_flight(path: Path, log_file: Path, video: Path | None, frames: int, workspace: Workspace, bars: Bars) -> Path:
    """Lay down the frames of a flight that are most worth labelling, for the recipe at `path`; returns their folder.

    log_file: detections.jsonl, or the folder of a flight that a drone brought home. video: what the log is about, where
    it lies no longer where the log says; without it a drone's flight gives the frames that it kept.

    Raises:
        UserError: a log that cannot be read, nothing worth labelling, or a flight that was laid down before.
    """
    from deploy.flightlog.reading import FlightRecords, is_flight
    from pipeline.curate.droneflights import read_drone_log, write_kept_frames
    from pipeline.curate.flightlog import read_flight_log
    from pipeline.curate.flights import pick_frames
    from pipeline.curate.flightsource import write_flight_source

    recipe = read_recipe(path)
    records = FlightRecords(log_file) if is_flight(log_file) else None
    log = read_drone_log(records) if records is not None else read_flight_log(log_file)
    if records is not None and video is None:
        folder = workspace.flights(recipe.name) / log.flight
        write_kept_frames(folder, records)
        return folder
    picked = pick_frames(log, frames)
    folder = workspace.flights(recipe.name) / log.flight

    def report(done: int) -> None:
        bars.show(f"frames of {log.flight}", done, len(picked))

    write_flight_source(folder, log, picked, video or Path(log.source), progress=report)
    return folder


def _review_recipe(path: Path, source: Path | None, workspace: Workspace, bars: Bars, port: int) -> None:
    """Show what the rules decided in FiftyOne until Ctrl-C; the tags go to the file beside `path`."""
    from pipeline.curate import overrides, review
    from pipeline.curate.candidates import review_candidates
    from pipeline.curate.labels import read_predictions

    recipe = read_recipe(path)
    inputs = curation_inputs(path, recipe, source, workspace)
    examined = examine_source(recipe, inputs, _reporter(recipe, bars))
    predicted = read_predictions(inputs.predictions) if inputs.predictions and inputs.predictions.is_file() else {}
    candidates = review_candidates(recipe, examined, predicted)
    review.load_review(
        recipe.name,
        candidates,
        workspace.cache,
        lambda done: bars.show(f"load {recipe.name} for review", done, len(candidates)),
    )
    said = review.open_review(recipe.name, workspace.cache, port)
    assert inputs.overrides is not None
    shown = {candidate.image_id for candidate in candidates}
    merged = overrides.merge_verdicts(overrides.read_overrides(inputs.overrides), said, shown)
    if merged or inputs.overrides.exists():
        overrides.write_overrides(inputs.overrides, merged)
    review.verdicts_are_recorded(recipe.name, workspace.cache)


def _reporter(recipe: Recipe, bars: Bars) -> Progress:
    return lambda what, done, total: bars.show(f"curate {recipe.name}: {what}", done, total)


def curation_text(summary: CurationSummary) -> str:
    """Images and boxes left after each rule, and in each split."""
    lines = [f"{summary.root}" + (" (up to date)" if summary.up_to_date else "")]
    lines += [f"  {row.rule:32} {row.images:7} images {row.boxes:8} boxes" for row in summary.remaining]
    lines += [f"  {name:32} {count.images:7} images {count.boxes:8} boxes" for name, count in summary.splits.items()]
    if summary.fetch_failures:
        lines.append(f"  {summary.fetch_failures} photos could not be fetched; running again tries them again")
    if summary.unjudged:
        lines.append(f"  the labels of {summary.unjudged} images are not cross-checked yet; add --cross-check")
    return "\n".join(lines)
