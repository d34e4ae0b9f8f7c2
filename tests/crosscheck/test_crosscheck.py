"""The cross-check on drawn building fronts: real networks, few iterations."""

from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import Skylight, assert_refused

from pipeline.crosscheck import cross_check
from pipeline.crosscheck.aligner import judge, train_aligner
from pipeline.crosscheck.folds import gather
from pipeline.crosscheck.patches import CONTEXT, SIDE, background_boxes, cut_patches
from pipeline.curate import Examination, Inputs, Recipe, curate, examine_source
from pipeline.curate.labels import labels_key, read_predictions
from pipeline.errors import UserError
from pipeline.interrupt import Interrupted, StopRequest
from pipeline.synthetic.fronts import draw_fronts

pytestmark = pytest.mark.long

COUNT = 24


def _recipe(**keys: object) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "fronts",
            "licence": "CC0-1.0",
            "source": {"format": "open-images"},
            "classes": ["Sash window", "Casement window", "Round window", "Arched window", "Shop window"],
            "merge_as": "Window",
            "labels": {"folds": 2, "iterations": 6, "size": 64, "shifted_band": 9, "missing": 0.5},
        }
        | keys
    )


@pytest.fixture(scope="module")
def fronts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "fronts"
    draw_fronts(folder, COUNT, seed=5)
    return folder


@pytest.fixture(scope="module")
def examined(fronts: Path) -> Examination:
    return examine_source(_recipe(), Inputs(fronts), lambda *_: None)


def test_every_image_is_judged_once_by_networks_that_never_saw_it_or_its_like(
    examined: Examination, tmp_path: Path
) -> None:
    told: list[str] = []
    path = cross_check(_recipe(), examined, tmp_path, StopRequest(), lambda what, *_: told.append(what))
    said = read_predictions(path)
    decisions = examined.decisions
    annotations = decisions.annotations
    for index in np.flatnonzero(decisions.images.kept):
        boxes = annotations.boxes[decisions.live & (annotations.image == index)]
        assert len(said[labels_key(examined.sha256[index], boxes)].shifts) == len(boxes)
    assert len(said) == decisions.images.kept.sum()
    assert {"train fold0", "train fold1-cooled", "align fold0", "align fold1"} <= set(told)
    for fold in (0, 1):
        folder = next(tmp_path.glob("work-*")) / "folds" / f"fold{fold}"
        seen, unseen = (set((folder / f"{split}.txt").read_text().split()) for split in ("train", "val"))
        assert seen
        assert unseen
        assert not seen & unseen
    material = gather(_recipe(), examined)
    clusters: dict[int, set[int]] = {}
    for image_id, fold in zip(material.image_ids, material.fold, strict=True):
        clusters.setdefault(int(examined.cluster[annotations.image_ids.index(image_id)]), set()).add(int(fold))
    assert all(len(folds) == 1 for folds in clusters.values())

    told.clear()
    first = path.read_bytes()
    assert cross_check(_recipe(), examined, tmp_path, StopRequest(), lambda what, *_: told.append(what)) == path
    assert path.read_bytes() == first
    assert not any(what.startswith("align") for what in told)


def test_a_stopped_cross_check_goes_on_and_other_boxes_start_anew(
    examined: Examination, fronts: Path, tmp_path: Path
) -> None:
    stop = StopRequest()

    def stop_in_the_second_aligner(what: str, done: int, *_: object) -> None:
        stop.is_set = what == "align fold1" and done == 2

    with pytest.raises(Interrupted, match="kept"):
        cross_check(_recipe(), examined, tmp_path, stop, stop_in_the_second_aligner)
    assert not (tmp_path / "predictions.parquet").exists()
    told: list[str] = []
    cross_check(_recipe(), examined, tmp_path, StopRequest(), lambda what, *_: told.append(what))
    assert "align fold0" not in told
    assert "align fold1" in told
    before = set(tmp_path.glob("work-*"))
    fewer = _recipe(limits={"boxes_per_image": [1, 12]})
    other = examine_source(fewer, Inputs(fronts), lambda *_: None)
    cross_check(fewer, other, tmp_path, StopRequest(), lambda *_: None)
    assert len(set(tmp_path.glob("work-*")) - before) == 1
    assert not before & set(tmp_path.glob("work-*"))


def test_predictions_make_columns_and_rules_of_the_set(examined: Examination, fronts: Path, tmp_path: Path) -> None:
    path = cross_check(_recipe(), examined, tmp_path / "check", StopRequest(), lambda *_: None)
    found = examine_source(_recipe(), Inputs(fronts, predictions=path), lambda *_: None)
    assert {"shifted", "missing"} <= {step.rule for step in found.decisions.remaining}
    assert np.isfinite(found.scores["missing"][found.decisions.images.kept]).all()
    without = curate(_recipe(), Inputs(fronts), tmp_path / "set")
    judged = curate(_recipe(), Inputs(fronts, predictions=path), tmp_path / "set")
    assert not judged.up_to_date
    assert (without.unjudged, judged.unjudged) == (without.remaining[-1].images, 0)
    assert without.remaining[-1].rule not in ("shifted", "missing")


def test_too_few_images_for_the_folds_are_refused(examined: Examination, tmp_path: Path) -> None:
    recipe = _recipe(labels={"folds": 20, "iterations": 2, "size": 64})
    with pytest.raises(UserError, match=r"images for 20 folds; .*labels\.folds"):
        cross_check(recipe, examined, tmp_path, StopRequest(), lambda *_: None)


def test_a_patch_shows_the_box_in_its_middle_and_grey_outside_the_photo(tmp_path: Path) -> None:
    from PIL import Image

    photo = np.zeros((200, 300, 3), dtype=np.uint8)
    photo[80:120, 120:180] = (255, 0, 0)
    Image.fromarray(photo).save(tmp_path / "a.png")
    box = np.array([[120 / 300, 80 / 200, 180 / 300, 120 / 200], [0, 0, 0.2, 0.2]])
    patches = cut_patches(tmp_path / "a.png", box)
    half = SIDE / CONTEXT / 2
    inside = patches[0, 0] > 128
    assert abs(inside.sum() - (2 * half) ** 2) < 0.05 * (2 * half) ** 2
    rows, columns = np.nonzero(inside)
    assert abs(rows.mean() - SIDE / 2) < 1
    assert abs(columns.mean() - SIDE / 2) < 1
    assert patches[1, :, 0, 0].tolist() == [127, 127, 127]


def test_background_holds_next_to_nothing_of_any_box() -> None:
    random = np.random.default_rng(0)
    boxes = np.array([[0.1, 0.1, 0.4, 0.4], [0.5, 0.5, 0.9, 0.9]])
    found = background_boxes(boxes, 20, random)
    assert len(found) > 5
    assert found.min() >= 0
    assert found.max() <= 1
    assert background_boxes(np.array([[0.0, 0.0, 1.0, 1.0]]), 5, random).shape == (0, 4)


def _patches(random: np.random.Generator, shifts: np.ndarray) -> np.ndarray:
    """Bright squares on noise, each off the middle by `shifts`, (N, 2) in sides of the box."""
    patches = random.integers(0, 90, (len(shifts), 3, SIDE, SIDE)).astype(np.uint8)
    side = SIDE / CONTEXT
    for patch, shift in zip(patches, shifts, strict=True):
        left, top = np.round(SIDE / 2 - side / 2 - shift * side).astype(int)
        patch[:, top : top + round(side), left : left + round(side)] += 120
    return patches


def test_the_aligner_says_how_far_a_box_lies_beside_its_object_and_whether_there_is_one() -> None:
    random = np.random.default_rng(0)
    aligned = torch.from_numpy(_patches(random, np.zeros((300, 2))))
    noise = torch.from_numpy(random.integers(0, 90, (200, 3, SIDE, SIDE)).astype(np.uint8))
    network = train_aligner(aligned, noise, iterations=60, seed=0)
    shifts = random.uniform(-0.25, 0.25, (64, 2))
    answers = judge(network, torch.from_numpy(_patches(random, shifts)))
    assert np.corrcoef(answers[:, 0], shifts[:, 0])[0, 1] > 0.8
    assert np.corrcoef(answers[:, 1], shifts[:, 1])[0, 1] > 0.8
    assert np.abs(judge(network, aligned[:64])[:, :2]).mean() < 0.1
    assert answers[:, 4].mean() > judge(network, noise[:64])[:, 4].mean() + 2


def test_a_recipe_that_would_make_nothing_of_it_is_refused(tmp_path: Path, skylight: Skylight) -> None:
    (tmp_path / "a.yaml").write_text("name: a\nlicence: CC0-1.0\nsource: {format: open-images}\nclasses: [Window]\n")
    done = skylight("curate", tmp_path / "a.yaml", "--source", tmp_path, "--root", tmp_path, "--cross-check")
    assert_refused(done, "a.yaml: labels: no limit", "shifted_band")
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]
