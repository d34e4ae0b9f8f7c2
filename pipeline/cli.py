"""The command `skylight`: one verb per stage. What a verb does lies in its package, loaded when it is called."""

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UserError, refuse
from pipeline.interrupt import Interrupted

__all__ = ["app", "main"]

_HELP = """From a few photos of one window to a detector that flies.

An experiment file says what to do; each stage leaves a folder that the next one reads:

curate: photos and recipe to data/SET, train: to runs/EXPERIMENT, export: to bundles/NAME-VERSION, detect: to boxes.

Exit status: 0 done, 2 something you can put right (one line says what), 130 stopped by Ctrl-C (what was kept is said).
"""

app = typer.Typer(help=_HELP, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)

_ExperimentFile = Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="Experiment file (.yaml).")]
_Root = Annotated[Path, typer.Option("--root", help="Folder for data/, runs/, bundles/ and cache/.")]
_Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def main() -> None:
    """Run the command line; what the user can put right is one line and exit status 2."""
    # Threads that wait by spinning slow two trainings on the same cores to a quarter; alone it makes no difference.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is half-written is cleared away, as by Ctrl-C
    try:
        sys.exit(app(standalone_mode=False))
    except typer.TyperException as error:
        message = str(error) or getattr(error, "message", "")
        if "\n" in message:  # called without a command: the help
            print(message)
            sys.exit(2)
        _fail(f"{message}; see skylight --help", 2)
    except UserError as error:
        _fail(str(error), 2)
    except Interrupted as stopped:
        _fail(f"stopped: {stopped}", 130)
    except (KeyboardInterrupt, typer.Abort):
        _fail("stopped at once; what was complete is kept", 130)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that may not be written
        _fail(f"{error.filename or 'file system'}: {error.strerror or error}; what was complete is kept", 2)


@app.command(
    epilog="Examples: skylight curate experiments/facades.yaml; "
    "skylight curate datasets/facades.yaml --source facades --cross-check; "
    "skylight curate datasets/facades.yaml --source facades --review"
)
def curate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Recipe or experiment file (.yaml).")],
    source: Annotated[Path | None, typer.Option(help="Folder of photos and boxes, for a recipe.")] = None,
    root: _Root = Path(),
    cross_check: Annotated[
        bool, typer.Option("--cross-check", help="First train networks that judge labels they never saw.")
    ] = False,
    review: Annotated[
        bool, typer.Option("--review", help="Look at the photos in FiftyOne; tag keep, drop or fix.")
    ] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where the review is served.")] = 5151,
    explain: Annotated[
        str | None, typer.Option(metavar="IMAGE_ID", help="Tell why an image is in the set or not.")
    ] = None,
    flight: Annotated[
        Path | None,
        typer.Option(metavar="LOG", help="First take frames worth labelling from a flight: detections.jsonl."),
    ] = None,
    video: Annotated[Path | None, typer.Option(help="What the flight log is about, if it was moved.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="How many frames of the flight.")] = 40,
    as_json: _Json = False,
) -> None:
    """Make the curated set of a recipe, or every one of an experiment: data/SET, for Ultralytics and Darknet alike."""
    from pipeline.progress import Bars
    from pipeline.steps import add_flight, curation_text, explanations, recipes_of, run_curation
    from pipeline.workspace import Workspace

    recipes = recipes_of(file, source)
    workspace = Workspace(root)
    if explain is not None:
        print(explanations(recipes, explain, workspace))
        return
    with Bars() as bars:
        if flight is not None:
            if len(recipes) != 1:
                raise refuse("--flight", f"{file} names {len(recipes)} recipes", "give the one recipe it is for")
            add_flight(recipes[0][0], flight, video, frames, workspace, bars)
        summaries = run_curation(
            recipes, workspace, bars, cross_check=cross_check, review_port=port if review else None
        )
    if as_json:
        print(json.dumps([asdict(summary) | {"root": str(summary.root)} for summary in summaries]))
        return
    for summary in summaries:
        print(curation_text(summary))


@app.command(epilog="Example: skylight train experiments/facades.yaml")
def train(experiment: _ExperimentFile, root: _Root = Path(), as_json: _Json = False) -> None:
    """Train every trial of an experiment; trials that are finished stay, one that was broken off goes on."""
    from pipeline.experiment import read_experiment
    from pipeline.progress import Bars
    from pipeline.steps import tables_text, train_trials, write_tables
    from pipeline.train.processes import joined_processes
    from pipeline.workspace import Workspace

    content = read_experiment(experiment)
    workspace = Workspace(root)
    with joined_processes() as processes, Bars() as bars:
        plan = train_trials(content, workspace, bars, processes)
    if not processes.is_first:
        return
    tables = write_tables(content, plan, workspace)
    if as_json:
        print(json.dumps({stage: [asdict(arm) for arm in arms] for stage, arms in tables.items()}))
        return
    print(tables_text(content, tables, workspace))


@app.command(epilog="Example: skylight export experiments/facades.yaml")
def export(experiment: _ExperimentFile, root: _Root = Path(), as_json: _Json = False) -> None:
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


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    epilog="Example: skylight detect --bundle bundles/arch-1 --source flight.mp4 --out out",
)
def detect(context: typer.Context) -> None:
    """Run a bundle on a picture, folder, video, camera or stream, with what flies alone (skylight-detect)."""
    from deploy.cli import main as detect_main

    sys.exit(detect_main(context.args))


@app.command(epilog="Example: skylight demo --root demo")
def demo(root: Annotated[Path, typer.Option("--root", help="Folder for all that is made.")] = Path("demo")) -> None:
    """The whole line on drawn building fronts, with nothing prepared: draw, curate, train, export, fly past."""
    from pipeline.demo import run_demo

    run_demo(root)


def _fail(message: str, status: int) -> None:
    print(f"skylight: {message}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
