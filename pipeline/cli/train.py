"""The verbs of training, of a trial's figures, and of what goes into it: published weights, anchors."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import DataSet, ExperimentFile, Json, Root, app, one_of, resize_mode, width_and_height
from pipeline.cli.overview import examples
from pipeline.errors import refuse


@app.command(
    epilog=examples(
        "skylight train experiments/facades.yaml",
        "skylight train experiments/facades.yaml --workers 4",
        "skylight train experiments/facades.yaml --root /nfs/team --address auto --gpus-per-trial 0.25",
    )
)
def train(
    experiment: ExperimentFile,
    root: Root = Path(),
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Trials at once, on Ray; this machine is divided among them.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Ray cluster whose nodes all see --root: auto, HOST:PORT or ray://HOST:PORT."
        ),
    ] = None,
    gpus_per_trial: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="X", help="Part of a GPU that a trial takes, with --workers or --address."),
    ] = None,
    cpus_per_trial: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Threads of a trial, likewise.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train every trial of an experiment; trials that are finished stay, one that was broken off goes on.

    One after the other in this process, several at once with --workers, on a Ray cluster with --address. Under torchrun
    its processes train each trial together. Ends with the page that skylight report writes.
    """
    from pipeline.experiment import read_experiment
    from pipeline.progress import Bars
    from pipeline.reporting import report_or_say
    from pipeline.train.places import Places
    from pipeline.train.processes import joined_processes
    from pipeline.training import tables_text, train_trials, write_tables
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
    page = report_or_say(content, experiment, workspace)
    if as_json:
        print(json.dumps({stage: [asdict(arm) for arm in arms] for stage, arms in tables.items()}))
        return
    print(tables_text(content, tables, workspace))
    if page is not None:
        print(f"report: {page}")


@app.command(
    epilog=examples(
        "skylight curves runs/kitti-cars/cars/scratch-f0-s0 runs/kitti-cars/cars/coco-f0-s0",
        "skylight curves runs/kitti-cars/cars/* --plot curves.png",
    )
)
def curves(
    trials: Annotated[list[Path], typer.Argument(metavar="TRIAL", help="Folders of trials, finished or not.")],
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw them: .png, .svg or .pdf.")] = None,
    as_json: Json = False,
) -> None:
    """Precision, recall, AP and F1 of every evaluation of trials of `skylight train`."""
    from pipeline.report.trial_curves import curves_rows, plot_curves, read_curve, trial_curves_text

    found = [read_curve(trial) for trial in trials]
    if plot is not None:
        plot_curves(found, plot)
    print(json.dumps(curves_rows(found)) if as_json else trial_curves_text(found))


@app.command(epilog=examples("skylight weights", "skylight weights yolov3-tiny.conv.15"))
def weights(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="What to download.")] = None,
    root: Root = Path(),
    as_json: Json = False,
) -> None:
    """List the weights that Darknet's authors published, or download one and print its path."""
    from pipeline.progress import Bars
    from pipeline.report.known_weights import known_weights_rows, known_weights_text
    from pipeline.training import download_weights
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
    epilog=examples(
        "skylight anchors data/facades-windows",
        "skylight anchors data/facades-windows --size 224 --cfg my.cfg --write my-anchors.cfg",
    )
)
def anchors(
    data: DataSet,
    count: Annotated[int, typer.Option(min=1, metavar="N", help="How many anchors.")] = 6,
    size: Annotated[
        str | None, typer.Option(metavar="W[xH]", help="Input in pixels; by default that of the cfg: 416.")
    ] = None,
    resize: Annotated[str, typer.Option(metavar="stretch|letterbox", help="How photos come to that size.")] = "stretch",
    split: Annotated[str, typer.Option(metavar="train|val|test", help="Whose boxes.")] = "train",
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the starts of k-means.")] = 0,
    cfg: Annotated[str, typer.Option(metavar="CFG", help="Cfg to compare with: a file or a name.")] = "yolov3-tiny",
    write: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a new cfg with these anchors; none is overwritten.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find the anchors that fit the boxes of a set best, by k-means on 1 - IoU as `darknet detector calc_anchors`."""
    from pipeline.train.fit_anchors import anchors_text, fit_anchors

    fitted = fit_anchors(
        data,
        count,
        None if size is None else width_and_height(size),
        resize_mode(resize) or "stretch",
        one_of("--split", split, ("train", "val", "test")),
        seed,
        cfg,
        write,
    )
    print(json.dumps(fitted.as_dict()) if as_json else anchors_text(fitted))
