"""The official Open Images files: read in one pass, downloaded, and curated into a set."""

from pathlib import Path

import duckdb
import numpy as np
import pytest
from bad_server import Answer, BadServer, bad_server
from drawn_source import HEADER, draw_photo, row

from pipeline.curate import Inputs, Recipe, curate
from pipeline.curate import fetch as fetch_module
from pipeline.curate.annotations import FLAGS
from pipeline.curate.official import ensure_official, local_official
from pipeline.curate.readers.open_images_v7 import OfficialFiles, read_official
from pipeline.curated import read_curated_set
from pipeline.errors import UserError

CLASSES = "LabelName,DisplayName\n/x/window,Window\n/x/door,Door\n/x/arch,Arch\n"
NAMES = {
    "boxes": "v5/validation-annotations-bbox.csv",
    "classes": "v7/oidv7-class-descriptions-boxable.csv",
    "images": "2018_04/validation/validation-images-with-rotation.csv",
}


def _files(folder: Path, rows: list[str], subset: str = "validation") -> OfficialFiles:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{subset}.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    (folder / "classes.csv").write_text(CLASSES)
    return OfficialFiles(subset, folder / f"{subset}.csv", folder / "classes.csv")


def test_only_images_with_a_wanted_class_and_only_their_wanted_boxes(tmp_path: Path) -> None:
    rows = [
        row("b", "Door"),
        row("b", "Window", (0.2, 0.1, 0.5, 0.4), IsOccluded=-1, IsTruncated=1),
        row("a", "Door"),
        row("c", "Arch", (0, 0, 1, 1)).replace("xclick", "activemil"),
        row("b", "Window", (0.6, 0.1, 0.9, 0.4), IsGroupOf=1),
    ]
    found = read_official([_files(tmp_path, rows)], ["Window", "Arch"])
    assert found.image_ids == ("b", "c")
    assert found.row.tolist() == [3, 5, 6]
    assert [found.class_names[label] for label in found.label] == ["Window", "Arch", "Window"]
    assert found.boxes.tolist() == [[0.2, 0.1, 0.5, 0.4], [0, 0, 1, 1], [0.6, 0.1, 0.9, 0.4]]
    assert found.flags[:, FLAGS.index("IsOccluded")].tolist() == [-1, -1, -1]
    assert found.flags[:, FLAGS.index("IsTruncated")].tolist() == [1, 0, 0]
    assert found.annotator.tolist() == ["xclick", "activemil", "xclick"]
    assert found.paths == (None, None)
    assert found.fetch == {"b": "validation/b.jpg", "c": "validation/c.jpg"}
    assert np.isnan(found.sizes).all()


def test_subsets_are_read_together_and_an_image_in_two_is_refused(tmp_path: Path) -> None:
    train, validation = _files(tmp_path / "t", [row("a")], "train"), _files(tmp_path / "v", [row("b")])
    found = read_official([train, validation], ["Window"])
    assert found.fetch == {"a": "train/a.jpg", "b": "validation/b.jpg"}
    assert [found.files[file].name for file in found.file] == ["train.csv", "validation.csv"]
    with pytest.raises(UserError, match=r"image a: in .*train\.csv and in .*validation\.csv"):
        read_official([train, _files(tmp_path / "v", [row("a")])], ["Window"])


def test_columns_behind_the_official_ones_and_what_rounding_put_over_the_edge_are_taken(tmp_path: Path) -> None:
    files = _files(tmp_path, [])
    lines = [HEADER + ",XClick1X,XClick2X", row("a", box=(-0.0004, 0, 1.0004, 1)) + ",0.5,-1"]
    files.boxes.write_text("\n".join(lines) + "\n")
    assert read_official([files], ["Window"]).boxes.tolist() == [[0, 0, 1, 1]]


def test_sizes_and_the_list_of_images_are_used(tmp_path: Path) -> None:
    (tmp_path / "sizes.csv").write_text("image_id,image_w,image_h\nb,640,480\nz,1,1\n")
    (tmp_path / "images.csv").write_text("ImageID,Subset,OriginalURL\na,validation,x\nb,validation,y\n")
    files = _files(tmp_path, [row("a"), row("b")])
    full = OfficialFiles("validation", files.boxes, files.classes, tmp_path / "images.csv", tmp_path / "sizes.csv")
    found = read_official([full], ["Window"])
    np.testing.assert_array_equal(found.sizes, [[np.nan, np.nan], [640, 480]])
    (tmp_path / "images.csv").write_text("ImageID,Subset\na,validation\n")
    with pytest.raises(UserError, match=r"validation\.csv line 3: ImageID is b, which images\.csv does not have"):
        read_official([full], ["Window"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text.replace("0.1,0.5", "0.6,0.5", 1), r"line 2: XMin is 0\.6; it must not exceed XMax"),
        (lambda text: text.replace("0.1,0.5", "nan,0.5", 1), r"line 2: XMin is nan; give a number"),
        (lambda text: text.replace("0.1,0.5", "1.2,1.5", 1), r"line 2: XMin is 1\.2; give a fraction"),
        (lambda text: text.replace(",-1,0,0,0,0", ",2,0,0,0,0", 1), r"line 2: IsOccluded is 2; allowed are 1, 0"),
        (lambda text: text.rstrip()[:-9], r"line 3: 9 values; give 13"),
        (lambda text: text.replace("IsInside", "Inside"), r"line 1: no column IsInside"),
    ],
)
def test_bad_rows_are_one_line_that_names_file_and_line(tmp_path: Path, spoil, message: str) -> None:  # type: ignore[no-untyped-def]
    files = _files(tmp_path, [row("a"), row("b")])
    files.boxes.write_text(spoil(files.boxes.read_text()))
    with pytest.raises(UserError, match=rf"validation\.csv {message}") as caught:
        read_official([files], ["Window"])
    assert "\n" not in str(caught.value)


def test_paths_with_signs_that_mean_something_elsewhere(tmp_path: Path) -> None:
    found = read_official([_files(tmp_path / "a[1]* ?'x", [row("a")])], ["Window"])
    assert found.image_ids == ("a",)


def test_real_rows_of_the_test_subset(shared_data: Path) -> None:
    folder = shared_data / "openimages"
    files = OfficialFiles(
        "test", folder / "test-annotations-bbox.humanparts.csv", folder / "class-descriptions-boxable.csv"
    )
    lines = files.boxes.read_text().splitlines()
    names = dict(line.split(",", 1) for line in files.classes.read_text().splitlines())
    wanted = sorted({line.split(",")[2] for line in lines[1:]})[:2]
    found = read_official([files], [names[label] for label in wanted])
    expected = [number for number, line in enumerate(lines, start=1) if line.split(",")[2] in wanted]
    assert found.row.tolist() == expected
    assert len(expected) > 100
    for place in (0, len(expected) // 2, -1):
        values = lines[expected[place] - 1].split(",")
        assert found.image_ids[found.image[place]] == values[0]
        assert found.boxes[place].tolist() == pytest.approx([float(values[index]) for index in (4, 6, 5, 7)])
        assert found.flags[place].tolist() == [int(value) for value in values[8:13]]


def _serve(tmp_path: Path, rows: list[str]) -> dict[str, Answer]:
    ids = sorted({line.split(",")[0] for line in rows})
    images = "ImageID,Subset,OriginalURL\n" + "".join(f"{name},validation,x\n" for name in ids)
    answers = {
        f"/{NAMES['boxes']}": Answer(("\n".join([HEADER, *rows]) + "\n").encode()),
        f"/{NAMES['classes']}": Answer(CLASSES.encode()),
        f"/{NAMES['images']}": Answer(images.encode()),
    }
    for seed, name in enumerate(ids):
        draw_photo(tmp_path / "drawn" / f"{name}.jpg", 50 + seed, (320, 240))
        answers[f"/validation/{name}.jpg"] = Answer((tmp_path / "drawn" / f"{name}.jpg").read_bytes())
    return answers


def _recipe(server: BadServer, **keys: object) -> Recipe:
    source = {
        "format": "open-images-v7",
        "subsets": ["validation"],
        "options": {"annotations_url": server.url, "photos_url": server.url},
    }
    return Recipe.model_validate(
        {"name": "set", "licence": "CC BY 4.0", "source": source, "classes": ["Window"]} | keys
    )


def test_from_the_official_files_to_a_set_fetching_only_the_survivors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "pause", lambda attempt, wait: None)
    names = [f"{index:016x}" for index in range(14)]
    rows = [row(name) for name in names] + [row(names[0], "Door"), row("ffff", "Door")]
    rows[1] = row(names[1], IsGroupOf=1)
    answers = _serve(tmp_path, rows)
    del answers[f"/validation/{names[2]}.jpg"]
    answers[f"/validation/{names[3]}.jpg"].faults = [429, "cut"]
    with bad_server(answers) as server:
        recipe = _recipe(server, limits={"smallest_side": 10}, pixels={"near_duplicates": "drop"})
        inputs = Inputs(cache=tmp_path / "cache")
        summary = curate(recipe, inputs, tmp_path / "set")
        asked = {path for path, _ in server.asked}
        assert f"/validation/{names[1]}.jpg" not in asked  # a flag ruled it out before
        assert "/validation/ffff.jpg" not in asked
        assert summary.fetch_failures == 1
        rules = [step.rule for step in summary.remaining]
        assert rules.index("IsGroupOf") < rules.index("fetch_failed") < rules.index("smallest_side")
        kept = {image.image_id for images in read_curated_set(summary.root).splits.values() for image in images}
        assert kept == set(names) - {names[1], names[2]}
        server.asked.clear()
        again = curate(recipe, inputs, tmp_path / "set")
        assert again.up_to_date
        assert {path for path, _ in server.asked} == {f"/validation/{names[2]}.jpg"}
    with duckdb.connect() as connection:
        query = f"SELECT rule, source_sha256 FROM '{summary.root}/ledger.parquet' WHERE image_id = ? AND row IS NULL"
        assert connection.execute(query, [names[2]]).fetchall() == [("fetch_failed", None)]
        assert connection.execute(query, [names[1]]).fetchall() == [("IsGroupOf", None)]


def test_what_a_person_keeps_but_nobody_can_fetch_is_not_in_the_set(tmp_path: Path) -> None:
    names = [f"{index:016x}" for index in range(12)]
    answers = _serve(tmp_path, [row(name) for name in names])
    del answers[f"/validation/{names[5]}.jpg"]
    (tmp_path / "said.csv").write_text(f"image_id,verdict,note\n{names[5]},keep,\n")
    with bad_server(answers) as server:
        inputs = Inputs(cache=tmp_path / "cache", overrides=tmp_path / "said.csv")
        summary = curate(_recipe(server), inputs, tmp_path / "set")
    assert sum(count.images for count in summary.splits.values()) == 11


def test_local_copies_are_taken_by_their_official_names(tmp_path: Path) -> None:
    answers = _serve(tmp_path, [row("a")])
    with pytest.raises(UserError, match=r"no oidv7-class-descriptions-boxable\.csv"):
        local_official(tmp_path, ["validation"])
    for name in NAMES.values():
        (tmp_path / Path(name).name).write_bytes(answers[f"/{name}"].content)
    (found,) = local_official(tmp_path, ["validation"])
    assert (found.boxes.name, found.images and found.images.name) == (
        "validation-annotations-bbox.csv",
        "validation-images-with-rotation.csv",
    )
    with pytest.raises(UserError, match=r"no oidv6-train-annotations-bbox\.csv for the subset train"):
        local_official(tmp_path, ["train"])
    with pytest.raises(UserError, match="no such folder"):
        local_official(tmp_path / "none", ["train"])


def test_official_files_are_downloaded_once(tmp_path: Path) -> None:
    with bad_server(_serve(tmp_path, [row("a")])) as server:
        told: list[str] = []
        first = ensure_official(tmp_path / "cache", ["validation"], server.url, lambda what, *_: told.append(what))
        assert ensure_official(tmp_path / "cache", ["validation"], server.url) == first
        assert len(server.asked) == 3
    assert "download validation-annotations-bbox.csv" in told
    assert read_official(first, ["Window"]).image_ids == ("a",)
