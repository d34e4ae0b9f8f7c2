"""The command `skylight`: one verb per stage. What a verb does lies in its package, loaded when it is called."""

import json
import os
import re
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from pipeline.errors import UserError, refuse
from pipeline.interrupt import Interrupted

if TYPE_CHECKING:
    from pipeline.train.evaluate import Resize

__all__ = ["app", "main"]

_HELP = """From a few photos of one window to a detector that flies.

An experiment file says what to do; each stage leaves a folder that the next one reads:

curate: photos and recipe to data/SET, train: to runs/EXPERIMENT, export: to bundles/NAME-VERSION, detect: to boxes.

evaluate: how good any network is on a set, anchors: which fit its boxes, weights: what others published to start from.

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
        _let_first_speak()
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


@app.command(
    epilog="Examples: skylight train experiments/facades.yaml; "
    "skylight train experiments/facades.yaml --workers 4; "
    "skylight train experiments/facades.yaml --root /nfs/team --address auto --gpus-per-trial 0.25"
)
def train(
    experiment: _ExperimentFile,
    root: _Root = Path(),
    workers: Annotated[
        int | None, typer.Option(min=1, help="Trials at once, on Ray; this machine is divided among them.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster whose nodes all see --root: auto, HOST:PORT or ray://HOST:PORT."),
    ] = None,
    gpus_per_trial: Annotated[
        float | None, typer.Option(min=0, max=1, help="Part of a GPU that a trial takes, with --workers or --address.")
    ] = None,
    cpus_per_trial: Annotated[int | None, typer.Option(min=1, help="Threads of a trial, likewise.")] = None,
    as_json: _Json = False,
) -> None:
    """Train every trial of an experiment; trials that are finished stay, one that was broken off goes on.

    One after the other in this process, several at once with --workers, on a Ray cluster with --address. Under torchrun
    its processes train each trial together.
    """
    from pipeline.experiment import read_experiment
    from pipeline.progress import Bars
    from pipeline.steps import tables_text, train_trials, write_tables
    from pipeline.train.cluster import Places
    from pipeline.train.processes import joined_processes
    from pipeline.workspace import Workspace

    content = read_experiment(experiment)
    workspace = Workspace(root)
    places = Places(address, workers, cpus_per_trial, gpus_per_trial)
    is_on_ray = workers is not None or address is not None
    if not is_on_ray and places != Places():
        raise refuse("--gpus-per-trial, --cpus-per-trial", "divide machines among trials", "add --workers or --address")
    with joined_processes() as processes, Bars() as bars:
        if is_on_ray and processes.count > 1:
            raise refuse("--workers, --address", "started by torchrun", "use one or the other")
        plan = train_trials(content, workspace, bars, processes, places if is_on_ray else None)
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
    epilog="Examples: skylight evaluate runs/facades/arch/scratch-f0-s0; "
    "skylight evaluate my.cfg --weights my.weights --data data/facades-arch --split test; "
    "skylight evaluate yolov3-tiny --weights yolov3-tiny --known-masks --data coco"
)
def evaluate(
    network: Annotated[
        str, typer.Argument(metavar="NETWORK", help="Folder of a trial, a .cfg or .pt file, or a network's name.")
    ],
    weights: Annotated[
        str | None, typer.Option(metavar="FILE|NAME", help="Weights file, or a name of skylight weights.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Curated set, or a YOLO folder with data.yaml.")] = None,
    split: Annotated[str, typer.Option(metavar="train|val|test", help="What to measure on.")] = "val",
    size: Annotated[
        str | None, typer.Option(metavar="W[xH]", help="Input in pixels; by default that of the cfg or trial.")
    ] = None,
    resize: Annotated[
        str | None, typer.Option(metavar="stretch|letterbox", help="By default as the weights were trained.")
    ] = None,
    known_masks: Annotated[
        bool, typer.Option("--known-masks", help="Give the cfg the masks that published weights were trained with.")
    ] = False,
    root: _Root = Path(),
    as_json: _Json = False,
) -> None:
    """Measure a detector on a set as `darknet detector map` does: AP per class, mAP, precision, recall; COCO's too."""
    from pipeline.progress import Bars
    from pipeline.report.evaluated import evaluation_text
    from pipeline.steps import evaluate_with_bars
    from pipeline.train.evaluate import Wish
    from pipeline.workspace import Workspace

    wish = Wish(
        network=network,
        weights=weights,
        data=data,
        split=_one_of("--split", split, ("train", "val", "test")),
        size=None if size is None else _width_and_height(size),
        resize=_resize(resize),
        with_known_masks=known_masks,
    )
    with Bars() as bars:
        evaluated = evaluate_with_bars(wish, Workspace(root), bars)
    print(json.dumps(evaluated.as_dict()) if as_json else evaluation_text(evaluated))


@app.command(
    epilog="Examples: skylight anchors data/facades-windows; "
    "skylight anchors data/facades-windows --size 224 --cfg my.cfg --write my-anchors.cfg"
)
def anchors(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Curated set, or a YOLO folder with data.yaml.")],
    count: Annotated[int, typer.Option(help="How many anchors.")] = 6,
    size: Annotated[
        str | None, typer.Option(metavar="W[xH]", help="Input in pixels; by default that of the cfg: 416.")
    ] = None,
    resize: Annotated[str, typer.Option(metavar="stretch|letterbox", help="How photos come to that size.")] = "stretch",
    split: Annotated[str, typer.Option(metavar="train|val|test", help="Whose boxes.")] = "train",
    seed: Annotated[int, typer.Option(min=0, help="Of the starts of k-means.")] = 0,
    cfg: Annotated[str, typer.Option(metavar="CFG", help="Cfg to compare with: a file or a name.")] = "yolov3-tiny",
    write: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a new cfg with these anchors; none is overwritten.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Find the anchors that fit the boxes of a set best, by k-means on 1 - IoU as `darknet detector calc_anchors`."""
    from pipeline.train.fit_anchors import anchors_text, fit_anchors

    fitted = fit_anchors(
        data,
        count,
        None if size is None else _width_and_height(size),
        _resize(resize) or "stretch",
        _one_of("--split", split, ("train", "val", "test")),
        seed,
        cfg,
        write,
    )
    print(json.dumps(fitted.as_dict()) if as_json else anchors_text(fitted))


@app.command(epilog="Examples: skylight weights; skylight weights yolov3-tiny.conv.15")
def weights(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="What to download.")] = None,
    root: _Root = Path(),
    as_json: _Json = False,
) -> None:
    """List the weights that Darknet's authors published, or download one and print its path."""
    from pipeline.progress import Bars
    from pipeline.report.known_weights import known_weights_rows, known_weights_text
    from pipeline.steps import download_weights
    from pipeline.workspace import Workspace

    folder = Workspace(root).weights
    if name is not None:
        with Bars() as bars:
            path = download_weights(name, folder, bars)
        print(json.dumps({"name": name, "path": str(path)}) if as_json else path)
        return
    rows = known_weights_rows(folder)
    print(json.dumps(rows) if as_json else known_weights_text(rows, folder))


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


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise refuse(f"{option} {value}", "unknown", f"allowed: {', '.join(allowed)}")
    return value


def _resize(value: str | None) -> "Resize | None":
    from deploy.resize import RESIZE_MODES

    return None if value is None else cast("Resize", _one_of("--resize", value, RESIZE_MODES))


def _width_and_height(text: str) -> tuple[int, int]:
    """416 or 416x256, in pixels."""
    parts = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text, re.ASCII)
    width, height = (int(parts[1]), int(parts[2] or parts[1])) if parts else (0, 0)
    if not width or not height:
        raise refuse(f"--size {text}", "no size in pixels", "give for example 416 or 416x256")
    return width, height


def _let_first_speak() -> None:
    """When one process fails torchrun ends the others: who is left after a while had something of its own to say."""
    if os.environ.get("RANK", "0") != "0":
        time.sleep(5)


def _fail(message: str, status: int) -> None:
    if status != 130 or os.environ.get("RANK", "0") == "0":  # of torchrun's processes the first tells of a stop
        print(f"skylight: {message}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
