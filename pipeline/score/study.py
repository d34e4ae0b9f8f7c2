"""The classifier study: every network with every technique and seed on the crops of one set. Prints nothing.

Everything that can be wrong is found before the first training begins.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.curated import CuratedSet, read_curated_set
from pipeline.errors import refuse
from pipeline.files import file_sha256
from pipeline.interrupt import StopQuestion
from pipeline.score.classifiers import classifier, read_tensors
from pipeline.score.classify import Step, train_classifier
from pipeline.score.crops import Crops, cut_crops
from pipeline.score.pretrained import NamedBytesProgress, pretrained_files
from pipeline.score.trained_classifier import ClassifierFolder, ClassifierResult, ClassifierSettings, Technique
from pipeline.train.stages import data_hash
from pipeline.workspace import Workspace

__all__ = ["StudyReport", "StudyWish", "Trained", "run_study"]


@dataclass(frozen=True)
class StudyWish:
    """What was asked for; see `ClassifierSettings`. name: of the folder below runs/; by default the set's."""

    data: Path
    networks: tuple[str, ...]
    techniques: tuple[Technique, ...]
    seeds: tuple[int, ...]
    size: int
    smallest: float
    epochs: int
    batch: int
    learning_rate: float
    flip: bool
    pretrained: Mapping[str, Path] = field(default_factory=dict)
    name: str | None = None


@dataclass(frozen=True)
class StudyReport:
    """Whom to tell. on_cut: split, photos done, photos in all. on_step: name of the training, how far it is."""

    on_bytes: NamedBytesProgress | None = None
    on_cut: Callable[[str, int, int], None] | None = None
    on_step: Callable[[str, Step], None] | None = None


@dataclass(frozen=True)
class Trained:
    """One training that is finished."""

    folder: ClassifierFolder
    settings: ClassifierSettings
    result: ClassifierResult


def run_study(wish: StudyWish, workspace: Workspace, stop: StopQuestion, report: StudyReport) -> list[Trained]:
    """Train what is not finished, in the order network, technique, seed; return all.

    Raises:
        UserError: a set without crops, an unknown network, weights that are not to be had or do not fit, settings or
            data that changed.
        Interrupted: after a stop; the same call goes on.
    """
    data = read_curated_set(wish.data)
    content = data_hash(data)
    if len(data.classes) < 2:
        raise refuse(wish.data, f"has one class, {data.classes[0]}", "give a set with two classes at least")
    for network in wish.networks:
        classifier(network, len(data.classes), wish.size)
    if wish.pretrained and wish.techniques == ("scratch",):
        raise refuse("--pretrained", "scratch begins with random weights", "leave it out, or add a technique")
    needs_files = wish.techniques != ("scratch",)
    files = pretrained_files(wish.networks, wish.pretrained, workspace.weights, report.on_bytes) if needs_files else {}
    for network, path in files.items():
        classifier(network, len(data.classes), wish.size).load(path, read_tensors(path)[0], with_head=False)
    hashes = {network: file_sha256(path) for network, path in files.items()}
    plan = [
        _settings(wish, data, content, network, technique, seed, hashes)
        for network in wish.networks
        for technique in wish.techniques
        for seed in wish.seeds
    ]
    root = workspace.run(wish.name or data.name) / "classify"
    finished = {settings.name: ClassifierFolder(root / settings.name).require_same(settings) for settings in plan}
    crops: dict[str, Crops] = {} if all(finished.values()) else _crops(data, wish, report)
    trained = []
    for settings in plan:
        folder, result = ClassifierFolder(root / settings.name), finished[settings.name]
        if result is None:
            start = None if settings.technique == "scratch" else files[settings.network]
            result = train_classifier(folder, settings, crops, start, stop, _step_of(settings.name, report))
        trained.append(Trained(folder, settings, result))
    return trained


def _settings(
    wish: StudyWish,
    data: CuratedSet,
    content: str,
    network: str,
    technique: Technique,
    seed: int,
    hashes: Mapping[str, str],
) -> ClassifierSettings:
    return ClassifierSettings(
        network=network,
        technique=technique,
        seed=seed,
        pretrained_sha256=None if technique == "scratch" else hashes[network],
        data=data.name,
        data_hash=content,
        classes=data.classes,
        size=wish.size,
        smallest=wish.smallest,
        epochs=wish.epochs,
        batch=wish.batch,
        learning_rate=wish.learning_rate,
        flip=wish.flip,
    )


def _crops(data: CuratedSet, wish: StudyWish, report: StudyReport) -> dict[str, Crops]:
    """The crops of every split; train needs two, val one."""
    crops = {}
    for split, images in data.splits.items():

        def on_photo(done: int, split: str = split, total: int = len(images)) -> None:
            if report.on_cut:
                report.on_cut(split, done, total)

        crops[split] = cut_crops(images, wish.size, wish.size, wish.smallest, on_photo)
    for split, least in (("train", 2), ("val", 1)):
        if len(crops[split]) < least:
            found = f"{len(crops[split])} objects in {split}, {crops[split].too_small} too small"
            raise refuse(data.root, found, "give a set with more, or a smaller --smallest")
    return crops


def _step_of(name: str, report: StudyReport) -> Callable[[Step], None] | None:
    on_step = report.on_step
    return None if on_step is None else lambda step: on_step(name, step)
