"""Cases that advice is judged on: targets with few photos, starts that saw other things, and the sweep over all of it.

A case is a target and a number of its photos. Every case is trained from three starts at three freeze counts, but for
those that would freeze what was never trained, with several seeds; that is the truth which advice is compared with.

Starts: `scratch`; `objects`, everyday things on drawn building fronts, which stands in for COCO (its heads are left
behind); `windows`, real windows, on photos that no target tests on.
"""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from pipeline.curated import CuratedSet, LabelledImage, read_curated_set
from pipeline.curating import curate_recipe
from pipeline.experiment import DataSource, Experiment, Stage, Start
from pipeline.files import new_folder, write_text
from pipeline.progress import Bars
from pipeline.synthetic.fronts import draw_fronts
from pipeline.workspace import Workspace
from pipeline.yolo_folder import yolo_rows

__all__ = ["COUNTS", "Case", "experiment_of", "make_cases", "null_experiment", "start_experiment"]

COUNTS = (5, 20, 100)
ITERATIONS, START_ITERATIONS, FREEZES = 150, 400, (0, 13, 20)
_MOST_VAL, _VAL_SHARE = 60, 0.3
_DRAWN = ("Target window", "Round window")
_REAL = ("Arch", "Door", "Signboard", "Cantilever")
_PICTURES = 400


@dataclass(frozen=True)
class Case:
    """A target with a number of photos to train on; data: a YOLO folder."""

    target: str
    photos: int
    data: Path

    @property
    def name(self) -> str:
        """For folders."""
        return f"{self.target.lower().replace(' ', '-')}-{self.photos}"


def make_cases(facades: Path, window: Path, workspace: Workspace, bars: Bars) -> tuple[dict[str, Path], list[Case]]:
    """Make the sets of the starts, by name, and every case. facades, window: folders of real photos."""
    fronts = {seed: workspace.root / f"fronts-{seed}" for seed in (0, 1)}
    for seed, folder in fronts.items():
        if not folder.exists():
            draw_fronts(folder, _PICTURES, seed)
    recipes = Path(__file__).resolve().parents[2] / "datasets"
    objects = curate_recipe(recipes / "demo-objects.yaml", fronts[0], workspace, bars).root
    real = {name: _curated(name, facades, workspace, bars) for name in ("Window", *_REAL)}
    drawn = {name: _curated(name, fronts[1], workspace, bars) for name in _DRAWN}
    pools = {name: _pool(data, all_photos=name == "Arch") for name, data in real.items() if name != "Window"}
    pools |= {name: _pool(data, all_photos=True) for name, data in drawn.items()}
    pools["WPI window"] = _pool(_wpi(window, workspace), all_photos=True)
    with_arch = {image.image_id for images in real["Arch"].splits.values() for image in images}
    seen = [i for i in _everything(real["Window"]) if _is_even(i) and i.image_id not in with_arch]
    windows = workspace.data / "windows-start"
    _write(windows, seen[20:], seen[:20], "Window")
    cases = []
    for target, pool in pools.items():
        count = min(_MOST_VAL, round(_VAL_SHARE * len(pool)))
        val, rest = pool[:count], pool[count:]
        for photos in dict.fromkeys(min(number, len(rest)) for number in COUNTS):
            case = Case(target, photos, workspace.data / f"case-{target.lower().replace(' ', '-')}-{photos}")
            _write(case.data, rest[:photos], val, target)
            cases.append(case)
    return {"objects": objects, "windows": windows}, cases


def start_experiment(sets: dict[str, Path], size: int) -> Experiment:
    """One trial for each start."""
    stages = tuple(
        Stage(name=name, data=name, iterations=START_ITERATIONS, learning_rate_steps={START_ITERATIONS * 4 // 5: 0.1})
        for name in sets
    )
    return _experiment("starts", size, sets, stages, (0,))


def experiment_of(case: Case, starts: dict[str, Path], size: int, seeds: Sequence[int]) -> Experiment:
    """The sweep of a case. starts: weights files by name."""
    stage = Stage(
        name="target",
        data="target",
        starts=(
            Start(name="scratch", freeze=(0,)),
            Start(name="objects", weights=starts["objects"], layers=15, freeze=(0, 13)),
            Start(name="windows", weights=starts["windows"], freeze=FREEZES),
        ),
        iterations=ITERATIONS,
        learning_rate_steps={ITERATIONS * 4 // 5: 0.1},
    )
    return _experiment(case.name, size, {"target": case.data}, (stage,), tuple(seeds))


def null_experiment(sets: dict[str, Path], starts: dict[str, Path], size: int, iterations: int) -> Experiment:
    """Every start trained on for so many iterations on its own data, as a probe is."""
    stages = tuple(
        Stage(
            name=f"{name}-{iterations}",
            data=name,
            starts=(Start(name=name, weights=starts[name]),),
            iterations=iterations,
            learning_rate_steps={max(1, iterations * 4 // 5): 0.1},
        )
        for name in sets
    )
    experiment = _experiment("null", size, sets, stages, (0,))
    return experiment.model_copy(update={"burn_in": iterations // 5})


def _experiment(
    name: str, size: int, sets: dict[str, Path], stages: tuple[Stage, ...], seeds: tuple[int, ...]
) -> Experiment:
    data = {key: DataSource(path=folder.resolve()) for key, folder in sets.items()}
    return Experiment(name=name, size=size, burn_in=30, data=data, stages=stages, seeds=seeds)


def _curated(name: str, source: Path, workspace: Workspace, bars: Bars) -> CuratedSet:
    """All photos of one class, by the same rules as any set."""
    label = name.lower().replace(" ", "-")
    recipe = workspace.root / "recipes" / f"all-{label}.yaml"
    content = {"name": recipe.stem, "licence": "CC0-1.0", "source": {"format": "open-images"}, "classes": [name]}
    write_text(recipe, yaml.safe_dump(content))
    return read_curated_set(curate_recipe(recipe, source, workspace, bars).root)


def _wpi(folder: Path, workspace: Workspace) -> CuratedSet:
    """The photos and renders of one window as a set; the class has no name there."""
    root = workspace.data / "all-wpi-window"
    if not root.exists():
        with new_folder(root) as part:
            for photo in sorted((folder / "images").iterdir()):
                split = "val" if photo.name.startswith("real") else "train"
                for file in (photo, folder / "labels" / f"{photo.stem}.txt"):
                    place = part / file.parent.name / split
                    place.mkdir(parents=True, exist_ok=True)
                    shutil.copy(file, place)
            _write_yaml(part, "WPI window")
    return read_curated_set(root)


def _everything(data: CuratedSet) -> Iterator[LabelledImage]:
    """Every photo of a set, in an order that has nothing to do with its content."""
    images = [image for split in data.splits.values() for image in split]
    yield from sorted(images, key=lambda image: _hash(image.image_id))


def _pool(data: CuratedSet, all_photos: bool) -> list[LabelledImage]:
    """Photos for a target; of a class that stands on the same photos as windows, half."""
    return [image for image in _everything(data) if all_photos or not _is_even(image)]


def _is_even(image: LabelledImage) -> bool:
    return _hash(image.image_id) % 2 == 0


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _write(root: Path, train: Sequence[LabelledImage], val: Sequence[LabelledImage], name: str) -> None:
    if root.exists():
        return
    with new_folder(root) as part:
        for split, images in (("train", train), ("val", val)):
            (part / "images" / split).mkdir(parents=True)
            (part / "labels" / split).mkdir(parents=True)
            for image in images:
                shutil.copyfile(image.path.resolve(), part / "images" / split / image.path.name)
                sides = image.boxes / np.tile([image.width, image.height], 2)
                rows = yolo_rows(sides, np.zeros(len(sides), np.int64))
                write_text(part / "labels" / split / f"{image.path.stem}.txt", rows)
        _write_yaml(part, name)


def _write_yaml(root: Path, name: str) -> None:
    content = {"train": "images/train", "val": "images/val", "names": [name]}
    write_text(root / "data.yaml", yaml.safe_dump(content))
