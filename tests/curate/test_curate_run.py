import collections
import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from drawn_source import draw_source, ids, row

from pipeline.curate import CurationSummary, Inputs, Recipe, curate, read_recipe
from pipeline.curated import CuratedSet, hash_curated_set, read_curated_set
from pipeline.errors import UserError

DATASETS = Path(__file__).resolve().parents[2] / "datasets"
RECIPE = Recipe.model_validate(
    {"name": "set", "licence": "CC0-1.0", "source": {"format": "open-images"}, "classes": ["Window"]}
)


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _ledger(root: Path, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE VIEW ledger AS SELECT * FROM '{root / 'ledger.parquet'}'")
        return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def windows(facades: Path, tmp_path_factory: pytest.TempPathFactory) -> CurationSummary:
    out = tmp_path_factory.mktemp("data") / "facades-windows"
    return curate(read_recipe(DATASETS / "facades-windows.yaml"), Inputs(facades), out)


@pytest.fixture(scope="module")
def arches(facades: Path, tmp_path_factory: pytest.TempPathFactory) -> CurationSummary:
    out = tmp_path_factory.mktemp("data") / "facades-arch"
    return curate(read_recipe(DATASETS / "facades-arch.yaml"), Inputs(facades), out)


def _rows(facades: Path) -> list[dict[str, str]]:
    with (facades / "labels" / "detections.csv").open() as file:
        return list(csv.DictReader(file))


def _split_of(curated: CuratedSet) -> dict[str, str]:
    return {image.image_id: split for split, images in curated.splits.items() for image in images}


def test_facades_labels_are_the_boxes_of_the_csv_file(windows: CurationSummary, facades: Path) -> None:
    expected: dict[str, list[list[float]]] = collections.defaultdict(list)
    for line in _rows(facades):
        if line["LabelName"] == "/m/0d4v4":
            box = [float(line[name]) for name in ("XMin", "YMin", "XMax", "YMax")]
            if box not in expected[line["ImageID"]]:
                expected[line["ImageID"]].append(box)
    curated = read_curated_set(windows.root, verify=True)
    assert curated.classes == ("Window",)
    for images in curated.splits.values():
        for image in images:
            scale = [image.width, image.height, image.width, image.height]
            np.testing.assert_allclose(image.boxes, np.array(expected[image.image_id]) * scale, atol=1e-3)
            assert set(image.classes.tolist()) == {0}


def test_facades_that_a_flag_or_an_arch_marks_are_gone(windows: CurationSummary, facades: Path) -> None:
    marked = {
        line["ImageID"]
        for line in _rows(facades)
        if line["LabelName"] == "/x/arch"
        or (line["LabelName"] == "/m/0d4v4" and "1" in (line["IsGroupOf"], line["IsDepiction"], line["IsInside"]))
    }
    kept = set(_split_of(read_curated_set(windows.root)))
    windowed = {line["ImageID"] for line in _rows(facades) if line["LabelName"] == "/m/0d4v4"}
    assert kept == windowed - marked


def test_facades_near_duplicates_never_cross_splits_not_even_between_sets(
    windows: CurationSummary, arches: CurationSummary, facades: Path
) -> None:
    sets = [_split_of(read_curated_set(summary.root)) for summary in (windows, arches)]
    with (facades / "truth" / "defects.csv").open() as file:
        pairs = [
            (line["ImageID"], line["defect"].removeprefix("duplicate_of:"))
            for line in csv.DictReader(file)
            if line["defect"].startswith("duplicate_of:")
        ]
    met = 0
    for one, other in pairs:
        splits = [found[name] for found in sets for name in (one, other) if name in found]
        assert len(set(splits)) <= 1
        met += len(splits) > 1
    assert met > 10


def test_facades_counts_agree_with_what_lies_there(windows: CurationSummary, arches: CurationSummary) -> None:
    for summary in (windows, arches):
        curated = read_curated_set(summary.root)
        for split, images in curated.splits.items():
            assert summary.splits[split].images == len(images)
            assert summary.splits[split].boxes == sum(len(image.boxes) for image in images)
        assert summary.remaining[-1].images == sum(count.images for count in summary.splits.values())
        assert summary.remaining[-1].boxes == sum(count.boxes for count in summary.splits.values())
        assert all(count.images > 0 for count in summary.splits.values())
        print(summary)


def test_facades_ledger_accounts_for_every_image_and_box(windows: CurationSummary, facades: Path) -> None:
    root = windows.root
    assert _ledger(root, "SELECT kind, count(*) FROM ledger GROUP BY kind ORDER BY kind") == [
        ("annotation", 7026),
        ("image", 576),
    ]
    assert _ledger(
        root, "SELECT count(*) FROM ledger WHERE kept <> (rule = 'kept') OR kept <> (split IS NOT NULL)"
    ) == [(0,)]
    kept = dict(_ledger(root, "SELECT split, count(*) FROM ledger WHERE kept AND kind = 'image' GROUP BY split"))
    assert kept == {split: count.images for split, count in windows.splits.items()}
    lines = (facades / "labels" / "detections.csv").read_text().splitlines()
    for image_id, number in _ledger(root, "SELECT image_id, row FROM ledger WHERE rule = 'IsGroupOf' AND row > 0"):
        values = lines[number - 1].split(",")
        assert (values[0], values[10]) == (image_id, "1")
    assert _ledger(root, "SELECT count(DISTINCT recipe_sha256), count(DISTINCT source_sha256) FROM ledger") == [
        (1, 577)
    ]


ULTRALYTICS_READS = """
import json, sys
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset

data = check_det_dataset(sys.argv[1])
splits = {
    split: {
        label["im_file"]: [list(label["shape"]), label["cls"][:, 0].tolist(), label["bboxes"].tolist()]
        for label in YOLODataset(img_path=data[split], data=data, imgsz=64, augment=False).labels
    }
    for split in ("train", "val", "test")
}
with open(sys.argv[2], "w") as file:
    json.dump([data["names"], splits], file)
"""


def test_ultralytics_finds_the_same_boxes(arches: CurationSummary, tmp_path: Path) -> None:
    """In a process of its own, since importing Ultralytics changes cv2.imread and PIL.Image.open for everybody."""
    moved = tmp_path / "elsewhere"
    shutil.copytree(arches.root, moved, symlinks=True)
    environment = os.environ | {"YOLO_CONFIG_DIR": str(tmp_path), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    command = [sys.executable, "-c", ULTRALYTICS_READS, str(moved / "data.yaml"), str(tmp_path / "found.json")]
    subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True)
    names, splits = json.loads((tmp_path / "found.json").read_text())
    curated = read_curated_set(moved)
    assert tuple(names.values()) == curated.classes
    for split, images in curated.splits.items():
        assert set(splits[split]) == {str(image.path) for image in images}
        for image in images:
            shape, classes, rows = splits[split][str(image.path)]
            assert shape == [image.height, image.width]
            centres, sizes = np.array(rows)[:, :2], np.array(rows)[:, 2:]
            boxes = np.hstack([centres - sizes / 2, centres + sizes / 2])
            boxes *= [image.width, image.height, image.width, image.height]
            np.testing.assert_allclose(np.sort(boxes, axis=0), np.sort(image.boxes, axis=0), atol=0.01)
            np.testing.assert_array_equal(np.sort(classes), np.sort(image.classes))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    names = ids(12)
    return draw_source(tmp_path / "source", [*(row(name) for name in names), row(names[0], "Door")])


def test_curating_again_gives_the_same_bytes_wherever_it_lies(source: Path, tmp_path: Path) -> None:
    first = curate(RECIPE, Inputs(source), tmp_path / "one")
    shutil.copytree(source, tmp_path / "moved")
    second = curate(RECIPE, Inputs(tmp_path / "moved"), tmp_path / "deeper" / "other")
    assert _content(tmp_path / "one") == _content(tmp_path / "deeper" / "other")
    assert first.content_hash == second.content_hash == hash_curated_set(tmp_path / "one")


def test_an_unchanged_set_is_left_alone_and_a_changed_source_or_recipe_is_not(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    first = curate(RECIPE, Inputs(source), out)
    written = (out / "dataset.json").stat().st_mtime_ns
    again = curate(RECIPE, Inputs(source), out)
    assert not first.up_to_date
    assert again.up_to_date
    assert (out / "dataset.json").stat().st_mtime_ns == written
    assert (again.remaining, again.splits, again.content_hash) == (first.remaining, first.splits, first.content_hash)
    assert not curate(RECIPE.model_copy(update={"seed": 1}), Inputs(source), out).up_to_date
    csv_file = source / "labels" / "detections.csv"
    csv_file.write_text(csv_file.read_text().replace("0.5,", "0.6,", 1))
    changed = curate(RECIPE, Inputs(source), out)
    assert not changed.up_to_date
    assert changed.content_hash != first.content_hash


def test_a_changed_photo_is_noticed_even_if_size_and_time_are_kept(source: Path, tmp_path: Path) -> None:
    curate(RECIPE, Inputs(source), tmp_path / "set")
    photos = sorted((source / "data").iterdir())
    shutil.copyfile(photos[1], photos[0])
    assert not curate(RECIPE, Inputs(source), tmp_path / "set").up_to_date


def test_a_set_changed_by_hand_and_a_strange_folder_are_not_overwritten(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    curate(RECIPE, Inputs(source), out)
    label = next((out / "labels" / "train").iterdir())
    label.write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(UserError, match="changed after curating"):
        curate(RECIPE, Inputs(source), out)
    assert label.read_text() == "0 0.5 0.5 0.1 0.1\n"
    with pytest.raises(UserError, match="exists and is no curated set"):
        curate(RECIPE, Inputs(source), source)


def test_dataset_json_says_where_the_set_comes_from(source: Path, tmp_path: Path) -> None:
    curate(RECIPE, Inputs(source), tmp_path / "set")
    about = json.loads((tmp_path / "set" / "dataset.json").read_text())
    assert (about["name"], about["classes"], about["licences"]) == ("set", ["Window"], ["CC0-1.0"])
    assert about["recipe_sha256"] == RECIPE.sha256()
    assert about["recipe"]["near_duplicate_distance"] == RECIPE.near_duplicate_distance
    assert str(tmp_path) not in json.dumps(about)


def test_backgrounds_get_empty_labels(source: Path, tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"classes": ("Door",), "keep_backgrounds": True})
    summary = curate(recipe, Inputs(source), tmp_path / "set")
    assert sum(count.images for count in summary.splits.values()) == 12
    assert sum(count.boxes for count in summary.splits.values()) == 1
    assert len(list((tmp_path / "set" / "labels").rglob("*.txt"))) == 12


def test_progress_is_told_up_to_the_last_photo(source: Path, tmp_path: Path) -> None:
    told: dict[str, tuple[int, int]] = {}
    curate(RECIPE, Inputs(source), tmp_path / "set", lambda stage, done, total: told.update({stage: (done, total)}))
    assert told == {"hash": (12, 12), "compare": (12, 12), "write": (12, 12)}


@pytest.mark.parametrize("spoil", ["row", "photo", "flags", "few", "csv", "none"])
def test_bad_input_leaves_nothing_behind(source: Path, tmp_path: Path, spoil: str) -> None:
    csv_file = source / "labels" / "detections.csv"
    lines = csv_file.read_text().splitlines()
    if spoil == "row":
        csv_file.write_text("\n".join([*lines, "a,row,of,five,words"]))
    elif spoil == "photo":
        next((source / "data").iterdir()).write_bytes(b"no photo")
    elif spoil == "flags":
        csv_file.write_text("\n".join([lines[0], *(line.removesuffix("0") + "1" for line in lines[1:])]))
    elif spoil == "few":
        csv_file.write_text("\n".join(lines[:3]))
    elif spoil == "csv":
        csv_file.unlink()
    else:
        shutil.rmtree(source)
    with pytest.raises(UserError) as caught:
        curate(RECIPE, Inputs(source), tmp_path / "out" / "set")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").glob("*"))


def test_source_path_of_the_recipe_is_used_where_none_is_given(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no source folder"):
        curate(RECIPE, Inputs(), tmp_path / "set")
    recipe = RECIPE.model_copy(update={"source": RECIPE.source.model_copy(update={"path": source})})
    assert not curate(recipe, Inputs(), tmp_path / "set").up_to_date


def test_importing_the_stage_loads_no_heavy_library() -> None:
    heavy = {"torch", "duckdb", "imagehash", "scipy", "cv2", "ultralytics"}
    code = f"import sys, pipeline.curate; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
