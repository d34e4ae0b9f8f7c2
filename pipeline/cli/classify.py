"""The verbs about classifiers of crops, and features of any network."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from pipeline.cli.app import DataSet, Json, Root, app, one_of, resize_mode, width_and_height
from pipeline.cli.overview import examples
from pipeline.errors import refuse

if TYPE_CHECKING:
    from pipeline.progress import Bars
    from pipeline.score.pretrained import NamedBytesProgress
    from pipeline.score.study import StudyReport
    from pipeline.score.trained_classifier import Technique

_DEFAULTS = ("resnet18", "mobilenet_v2")


@app.command(
    epilog=examples(
        "skylight classify data/facades-objects",
        "skylight classify data/kitti --network resnet18 --technique finetuned --seed 0 --seed 1",
        "skylight classify data/kitti --pretrained resnet18=resnet18-f37072fd.pth --epochs 5",
    )
)
def classify(
    data: DataSet,
    network: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Classifier of torchvision; repeat for several. By default resnet18 and mobilenet_v2."
        ),
    ] = None,
    technique: Annotated[
        list[str] | None,
        typer.Option(metavar="scratch|frozen|finetuned", help="Repeat for several. By default all three."),
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(min=0, metavar="N", help="Repeat for several. By default 0.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, metavar="N", help="Times through the crops of train.")] = 20,
    batch: Annotated[int, typer.Option(min=2, metavar="N", help="Crops at once.")] = 8,
    learning_rate: Annotated[float, typer.Option(min=1e-9, max=10, metavar="RATE", help="Of Adam.")] = 1e-4,
    size: Annotated[
        int, typer.Option(min=16, max=1024, metavar="PIXELS", help="Side of the crops, after the resize.")
    ] = 128,
    smallest: Annotated[
        float, typer.Option(min=0, metavar="PIXELS", help="Objects with a shorter side are left out.")
    ] = 8,
    flip: Annotated[bool, typer.Option("--flip/--no-flip", help="Mirror every second crop.")] = True,
    pretrained: Annotated[
        list[str] | None,
        typer.Option(metavar="NETWORK=FILE", help="Weights to start from; by default torchvision's, downloaded."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Folder below runs/; by default the set's name.")
    ] = None,
    root: Root = Path(),
    as_json: Json = False,
) -> None:
    """Train classifiers on objects cut out of a set along their boxes: from scratch, with a new head, fine-tuned.

    Each lies in runs/NAME/classify/NETWORK-TECHNIQUE-sSEED/; a finished one stays, one broken off goes on.
    """
    from pipeline.interrupt import stop_on_signals
    from pipeline.progress import Bars
    from pipeline.report.classified import study_text
    from pipeline.report.classifier_plots import plot_classifier
    from pipeline.score.study import StudyWish, run_study
    from pipeline.score.trained_classifier import TECHNIQUES
    from pipeline.workspace import Workspace

    chosen = [cast("Technique", one_of("--technique", value, TECHNIQUES)) for value in technique or TECHNIQUES]
    wish = StudyWish(
        data,
        tuple(dict.fromkeys(network or _DEFAULTS)),
        tuple(dict.fromkeys(chosen)),
        tuple(dict.fromkeys(seed or (0,))),
        size,
        smallest,
        epochs,
        batch,
        learning_rate,
        flip,
        _named_files(pretrained or []),
        _folder_name(name),
    )
    with Bars() as bars, stop_on_signals() as stop:
        study = run_study(wish, Workspace(root), stop, _study_report(bars))
    for one in study:
        plot_classifier(one)
    if as_json:
        records = [{"folder": str(one.folder.root), "settings": one.settings, "result": one.result} for one in study]
        print(json.dumps(records, default=lambda model: model.model_dump(mode="json")))
        return
    print(study_text(study))


@app.command(
    epilog=examples(
        "skylight features resnet18 --weights imagenet --layer avgpool --data data/facades-objects --crops "
        "--out features.npz --classify knn",
        "skylight features yolov3-tiny --weights yolov3-tiny.conv.15 --layer 12 --data photos --out features.npz",
    )
)
def features(
    network: Annotated[
        str, typer.Argument(metavar="NETWORK", help="Folder of a trial or classifier, a .cfg or .pt file, or a name.")
    ],
    layer: Annotated[str, typer.Option(metavar="N|NAME", help="Layer; one that is not there lists those that are.")],
    data: Annotated[Path, typer.Option(metavar="FOLDER", help="Curated set, YOLO folder with data.yaml, or photos.")],
    out: Annotated[Path, typer.Option(metavar="FILE.npz", help="Where the features go; none is overwritten.")],
    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE|NAME", help="File, name of skylight weights, imagenet (classifiers), or random."),
    ] = None,
    pool: Annotated[str, typer.Option(metavar="mean|max|none", help="Over the places of a map.")] = "mean",
    crops: Annotated[bool, typer.Option("--crops", help="Of every labelled object, not of whole photos.")] = False,
    smallest: Annotated[
        float, typer.Option(min=0, metavar="PIXELS", help="Of --crops: objects with a shorter side are left out.")
    ] = 8,
    size: Annotated[
        str | None, typer.Option(metavar="W[xH]", help="Input in pixels; by default that of the cfg or training.")
    ] = None,
    resize: Annotated[
        str | None, typer.Option(metavar="stretch|letterbox", help="Of photos; by default as the weights were trained.")
    ] = None,
    classify_by: Annotated[
        str | None, typer.Option("--classify", metavar="knn|logistic", help="Fit on train, and judge val and test.")
    ] = None,
    neighbours: Annotated[int, typer.Option(min=1, metavar="N", help="Of knn.")] = 5,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of random weights.")] = 0,
    root: Root = Path(),
    as_json: Json = False,
) -> None:
    """Write what a layer of any network makes of photos or of the objects on them; say what it tells of the classes."""
    from pipeline.interrupt import stop_on_signals
    from pipeline.progress import Bars
    from pipeline.report.features import features_text, probe_text
    from pipeline.score.feature_probe import METHODS, Method, probe, require_labels
    from pipeline.score.features import POOLS, Pool, read_pictures, write_features
    from pipeline.score.subject import SubjectWish, find_subject
    from pipeline.workspace import Workspace

    pooled = cast("Pool", one_of("--pool", pool, POOLS))
    method = None if classify_by is None else cast("Method", one_of("--classify", classify_by, METHODS))
    if method and pooled == "none":
        raise refuse(f"--classify {method}", "--pool none keeps maps", "give --pool mean or max")
    wish = SubjectWish(
        network, weights, layer, None if size is None else width_and_height(size), resize_mode(resize), seed
    )
    with Bars() as bars, stop_on_signals() as stop:
        pictures = read_pictures(data, smallest if crops else None)
        if method:
            require_labels(pictures.row_labels, pictures.row_splits, data)
        subject = find_subject(wish, Workspace(root), _bytes_bar(bars))
        task = f"features of {network}"
        shape = write_features(subject, pictures, pooled, out, stop, lambda *done: bars.show(task, *done))
    found = None if method is None else probe(out, method, neighbours)
    if as_json:
        about = {"path": str(out), "shape": shape, "layer_name": subject.layer_name}
        print(json.dumps(about | {"classified": None if found is None else found.as_dict()}))
        return
    print(features_text(out, shape, subject))
    if found is not None:
        print(probe_text(found))


def _named_files(entries: list[str]) -> dict[str, Path]:
    """NETWORK=FILE, each network once."""
    files: dict[str, Path] = {}
    for entry in entries:
        network, _, path = entry.partition("=")
        if not network or not path or network in files:
            raise refuse(f"--pretrained {entry}", "no network and file", "give for example resnet18=resnet18.pth")
        files[network] = Path(path)
    return files


def _folder_name(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise refuse(f"--name {name}", "no name of a folder", "use letters, digits, dots, dashes and underscores")
    return name


def _bytes_bar(bars: "Bars") -> "NamedBytesProgress":
    return lambda name, done, total: bars.show(f"download weights of {name}, bytes", done, total or 0)


def _study_report(bars: "Bars") -> "StudyReport":
    from pipeline.score.classify import Step
    from pipeline.score.study import StudyReport

    def on_cut(split: str, done: int, total: int) -> None:
        bars.show(f"cut {split}", done, total, is_minor=True)

    def on_step(name: str, step: Step) -> None:
        f1 = "" if step.mean_f1 is None else f", mean F1 {100 * step.mean_f1:.1f} %"
        bars.show(f"classify {name}", step.batches, step.of_batches, f"batches, epoch {step.epoch}{f1}")

    return StudyReport(_bytes_bar(bars), on_cut, on_step)
