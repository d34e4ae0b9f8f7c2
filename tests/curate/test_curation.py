"""The whole stage on drawn photos: pixels, twins, selection, what a person said, and the story of one image."""

import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from drawn_source import draw_photo, draw_source, ids, row
from PIL import Image, ImageFilter

from pipeline.curate import CurationSummary, Inputs, Recipe, curate, explain, read_recipe
from pipeline.curated import read_curated_set
from pipeline.errors import UserError

DATASETS = Path(__file__).resolve().parents[2] / "datasets"


def _recipe(**keys: Any) -> Recipe:
    return Recipe.model_validate(
        {"name": "set", "licence": "CC0-1.0", "source": {"format": "open-images"}, "classes": ["Window"]} | keys
    )


def _ledger(root: Path, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE VIEW ledger AS SELECT * FROM '{root / 'ledger.parquet'}'")
        return connection.execute(query).fetchall()


def _image_ids(summary: CurationSummary) -> set[str]:
    return {image.image_id for images in read_curated_set(summary.root).splits.values() for image in images}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Twenty photos; the last is a smaller copy of the first, the last but one is blurred."""
    names = ids(20)
    folder = draw_source(tmp_path / "source", [row(name) for name in names])
    for place, name in enumerate(names):
        path = folder / "data" / f"{name}.jpg"
        draw_photo(path, 100 + place, (192, 128))
        with Image.open(path) as smooth:  # grain, or every photo is blurred
            grain = np.random.default_rng(place).normal(0, 12, (128, 192, 1))
            Image.fromarray((np.asarray(smooth) + grain).clip(0, 255).astype(np.uint8)).save(path, quality=95)
    with Image.open(folder / "data" / f"{names[0]}.jpg") as first:
        first.resize((144, 96)).save(folder / "data" / f"{names[19]}.jpg")
    with Image.open(folder / "data" / f"{names[18]}.jpg") as sharp:
        sharp.filter(ImageFilter.GaussianBlur(9)).save(folder / "data" / f"{names[18]}.jpg")
    return folder


def test_blurred_photos_and_the_smaller_of_twins_go(source: Path, tmp_path: Path) -> None:
    recipe = _recipe(pixels={"blur_band": 14, "near_duplicates": "drop"})
    summary = curate(recipe, Inputs(source), tmp_path / "set")
    names = ids(20)
    assert _image_ids(summary) == set(names[:18])
    rules = dict(_ledger(summary.root, "SELECT image_id, rule FROM ledger WHERE kind = 'image' AND NOT kept"))
    assert rules == {names[18]: "blur", names[19]: "near_duplicate"}
    assert [step.rule for step in summary.remaining][-2:] == ["blur", "near_duplicate"]
    ((value, threshold, cluster),) = _ledger(
        summary.root, f"SELECT value, threshold, \"cluster\" FROM ledger WHERE image_id = '{names[19]}' AND row IS NULL"
    )
    assert value <= threshold == recipe.near_duplicate_distance
    assert cluster == names[0]


def test_every_score_is_a_column_and_null_where_nothing_was_measured(source: Path, tmp_path: Path) -> None:
    recipe = _recipe(pixels={"edge_support_band": 50}, select={"images": 6})
    root = curate(recipe, Inputs(source), tmp_path / "set").root
    scores = "blur, brightness, clipped_share, edge_support, quality"
    rows = _ledger(root, f"SELECT {scores} FROM ledger WHERE kind = 'image' AND kept")
    assert len(rows) == 6
    assert all(0 <= value <= 1 for values in rows for value in values)
    sides = _ledger(root, "SELECT edge_left, edge_top, edge_right, edge_bottom, blur FROM ledger WHERE kind <> 'image'")
    assert all(0 <= value <= 1 for values in sides for value in values[:4])
    assert all(values[4] is None for values in sides)


def test_selection_takes_the_wanted_number_and_preferred_sources_first(source: Path, tmp_path: Path) -> None:
    csv_file = source / "labels" / "detections.csv"
    header, *lines = csv_file.read_text().splitlines()
    csv_file.write_text("\n".join([header, *(line.replace("xclick", "activemil") for line in lines[:15]), *lines[15:]]))
    preferred = {line.split(",")[0] for line in lines[15:]}
    summary = curate(_recipe(select={"images": 8}, prefer_sources=["xclick"]), Inputs(source), tmp_path / "set")
    assert len(_image_ids(summary)) == 8
    pooled = _ledger(
        summary.root, "SELECT image_id FROM ledger WHERE kind = 'image' AND value <= 16 AND rule = 'select'"
    )
    assert preferred <= _image_ids(summary) | {name for (name,) in pooled}
    few = curate(_recipe(select={"images": 5, "pool": 1}, prefer_sources=["xclick"]), Inputs(source), tmp_path / "few")
    assert _image_ids(few) == preferred
    again = curate(_recipe(select={"images": 8}, prefer_sources=["xclick"]), Inputs(source), tmp_path / "again")
    assert (again.root / "ledger.parquet").read_bytes() == (summary.root / "ledger.parquet").read_bytes()


def test_what_a_person_said_wins_and_is_told(source: Path, tmp_path: Path) -> None:
    names = ids(20)
    said = tmp_path / "set.review.csv"
    said.write_text(f"image_id,verdict,note\n{names[18]},keep,looks fine\n{names[3]},drop,\n{names[4]},fix,\n")
    recipe = _recipe(pixels={"blur_band": 14, "near_duplicates": "drop"})
    without = curate(recipe, Inputs(source, overrides=tmp_path / "none.csv"), tmp_path / "set")
    assert names[18] not in _image_ids(without)
    summary = curate(recipe, Inputs(source, overrides=said), tmp_path / "set")
    assert not summary.up_to_date
    assert _image_ids(summary) == set(names[:19]) - {names[3], names[4]}
    story = explain(summary.root, names[18])
    assert "kept" in story.splitlines()[0]
    assert "a person said keep; blur would have dropped it" in story
    assert "dropped by review_drop" in explain(summary.root, names[3])
    said.write_text("image_id,verdict,note\n")
    assert names[18] not in _image_ids(curate(recipe, Inputs(source, overrides=said), tmp_path / "set"))


def test_the_story_of_an_image_names_rule_numbers_and_the_line_of_every_box(source: Path, tmp_path: Path) -> None:
    names = ids(20)
    root = curate(_recipe(pixels={"near_duplicates": "drop"}), Inputs(source), tmp_path / "set").root
    story = explain(root, names[19])
    assert f"{names[19]}: dropped by near_duplicate (value " in story
    assert f"like {names[0]}: the most similar other photo differs in" in story
    assert "Window, detections.csv line 21: dropped by image" in story
    assert "blur 0." in story
    with pytest.raises(UserError, match="no image 'nobody' in its ledger"):
        explain(root, "nobody")
    with pytest.raises(UserError, match=r"no ledger\.parquet"):
        explain(tmp_path, names[0])


def test_a_second_run_measures_nothing_again_and_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    recipe = _recipe(pixels={"blur_band": 14, "near_duplicates": "drop"}, select={"images": 10})
    told: list[tuple[str, int]] = []
    inputs = Inputs(source, cache=tmp_path / "cache")
    curate(recipe, inputs, tmp_path / "one", lambda stage, done, total: told.append((stage, done)))
    assert ("score", 20) in told
    told.clear()
    curate(recipe, inputs, tmp_path / "two", lambda stage, done, total: told.append((stage, done)))
    assert [done for stage, done in told if stage in ("compare", "score", "tell apart")] == [20, 20, 18]
    assert (tmp_path / "one" / "ledger.parquet").read_bytes() == (tmp_path / "two" / "ledger.parquet").read_bytes()
    shutil.rmtree(tmp_path / "cache")
    third = curate(recipe, inputs, tmp_path / "two")
    assert third.up_to_date


def test_a_cache_that_is_no_cache_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "scores.sqlite3").write_text("something else entirely, and long enough to be no database")
    with pytest.raises(UserError, match=r"scores\.sqlite3: no usable score cache .*delete it"):
        curate(_recipe(), Inputs(source, cache=tmp_path / "cache"), tmp_path / "set")


def test_facades_recipe_finds_planted_defects_of_pixels_and_boxes(facades: Path, tmp_path: Path) -> None:
    """Without any network: flags, doubled and merged boxes, blur and near-duplicates."""
    lines = (facades / "truth" / "defects.csv").read_text().split()[1:]
    defects = {name: kind.partition(":")[0] for name, kind in (line.split(",") for line in lines)}
    root = curate(read_recipe(DATASETS / "facades.yaml"), Inputs(facades), tmp_path / "set").root
    found = dict(_ledger(root, "SELECT image_id, rule FROM ledger WHERE kind = 'image'"))
    doubled = {name for (name,) in _ledger(root, "SELECT DISTINCT image_id FROM ledger WHERE rule = 'overlap'")}
    windowed = {name for (name,) in _ledger(root, "SELECT DISTINCT image_id FROM ledger WHERE label = 'Window'")}
    shares = {}
    for kind in ("group_of", "depiction", "doubled", "merged", "blurred", "duplicate_of"):
        ids_of_kind = [name for name, what in defects.items() if what == kind and name in windowed]
        hit = [name for name in ids_of_kind if found[name] != "kept" or name in doubled]
        shares[kind] = len(hit) / len(ids_of_kind)
    clean = windowed - set(defects)
    lost = sum(found[name] != "kept" for name in clean) / len(clean)
    print(shares, lost)
    assert shares["group_of"] == shares["depiction"] == 1
    assert min(shares.values()) >= 0.8
    assert lost <= 0.1
