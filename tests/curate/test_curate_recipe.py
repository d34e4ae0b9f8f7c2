from pathlib import Path

import pytest

from pipeline.curate import read_recipe
from pipeline.errors import UserError

DATASETS = Path(__file__).resolve().parents[2] / "datasets"
GOOD = "name: a\nlicence: CC0-1.0\nsource: {format: open-images}\nclasses: [Window]\n"


@pytest.mark.parametrize("path", sorted(DATASETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid_and_name_no_place_on_a_machine(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.name == path.stem
    assert recipe.source.path is None


def test_datasets_is_no_python_package() -> None:
    assert not list(DATASETS.rglob("*.py"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "colour: red\n", ["colour", "unknown key", "near_duplicate_distance"]),
        (GOOD + "split: {train: 0.7, val: 0.2, tests: 0.1}\n", ["split.tests", "unknown key", "train, val, test"]),
        (GOOD + "split: {train: 0.7, val: 0.2, test: 0.2}\n", ["split", "1.1", "sum to 1"]),
        (GOOD + "split: {train: 1, val: 0, test: 0}\n", ["split.val", "found 0", "greater than 0"]),
        (GOOD + "drop_flags: [IsGroup]\n", ["drop_flags.0", "'IsGroup'", "'IsGroupOf', 'IsDepiction'"]),
        (GOOD + "near_duplicate_distance: 40\n", ["near_duplicate_distance", "found 40", "32"]),
        (GOOD + "exclude_images_with: [Window]\n", ["'Window'", "exclude_images_with"]),
        (GOOD.replace("[Window]", "[Window, Window]"), ["classes", "'Window'", "twice"]),
        (GOOD.replace("[Window]", "[]"), ["classes", "at least 1"]),
        (GOOD.replace("licence: CC0-1.0\n", ""), ["licence", "missing"]),
        (GOOD.replace("open-images", "cocoa"), ["source.format", "'cocoa'", "'open-images'", "'coco'"]),
        (GOOD.replace("open-images", "open-images-v7"), ["source", "subsets", "open-images-v7"]),
        (GOOD + "limits: {overlap: 2}\n", ["limits.overlap", "found 2", "less than or equal to 1"]),
        (GOOD + "limits: {boxes_per_image: [5, 2]}\n", ["limits.boxes_per_image", "fewest and most"]),
        (GOOD + "pixels: {near_duplicates: merge}\n", ["pixels.near_duplicates", "'merge'", "'drop'"]),
        (GOOD + "labels: {shift: 1}\n", ["labels.shift", "unknown key", "shifted_band, missing, merged"]),
        (GOOD + "select: {pool: 3}\n", ["select.images", "missing"]),
        (GOOD.replace("name: a", "name: A/b"), ["name", "'A/b'", "[a-z0-9-]*"]),
        ("name: [a\n", ["not YAML", ":2:"]),
        ("- a\n", ["holds no mapping of keys"]),
    ],
)
def test_error_names_file_key_value_and_what_is_allowed(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_recipe(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in [str(path), *words]:
        assert word in message


def test_missing_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_recipe(tmp_path / "none.yaml")


def test_hash_ignores_where_the_source_lies_but_no_limit(tmp_path: Path) -> None:
    def hashed(text: str) -> str:
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return read_recipe(path).sha256()

    assert hashed(GOOD) == hashed(GOOD.replace("open-images}", "open-images, path: /anywhere}"))
    assert hashed(GOOD) == hashed("# a comment\n" + GOOD)
    assert hashed(GOOD) != hashed(GOOD + "near_duplicate_distance: 9\n")
