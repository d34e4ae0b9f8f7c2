from pathlib import Path
from typing import Any

import pytest
from drawn_source import draw_source, row

from pipeline.curate import Recipe
from pipeline.curate.readers import read_open_images
from pipeline.curate.rules import Decisions, apply_rules
from pipeline.errors import UserError


def _decide(tmp_path: Path, rows: list[str], photos: list[str] | None = None, **keys: Any) -> Decisions:
    recipe = Recipe.model_validate(
        {"name": "set", "licence": "CC0-1.0", "source": {"format": "open-images"}, "classes": ["Window"]} | keys
    )
    return apply_rules(read_open_images(draw_source(tmp_path / "source", rows, photos)), recipe)


def test_a_flagged_box_takes_its_whole_image_and_an_unknown_flag_does_not(tmp_path: Path) -> None:
    rows = [row("a"), row("b", IsGroupOf=1), row("b", box=(0, 0, 0.1, 0.1)), row("c", IsGroupOf=-1)]
    found = _decide(tmp_path, rows)
    assert found.images.rule.tolist() == ["kept", "IsGroupOf", "kept"]
    assert found.boxes.rule.tolist() == ["kept", "IsGroupOf", "image", "kept"]
    assert found.images.value[1] == 1


@pytest.mark.parametrize("flag", ["IsGroupOf", "IsDepiction", "IsInside"])
def test_each_default_flag_drops(tmp_path: Path, flag: str) -> None:
    names = ("IsGroupOf", "IsDepiction", "IsInside")
    flagged = row("b", "Window", (0.1, 0.2, 0.5, 0.8), **{name: int(name == flag) for name in names})
    assert _decide(tmp_path, [row("a"), flagged]).images.rule.tolist() == ["kept", flag]


def test_a_flag_that_the_recipe_does_not_name_drops_nothing(tmp_path: Path) -> None:
    found = _decide(tmp_path, [row("a", IsTruncated=1), row("b", IsGroupOf=1)], drop_flags=["IsTruncated"])
    assert found.images.rule.tolist() == ["IsTruncated", "kept"]


def test_a_flagged_box_of_another_class_drops_nothing(tmp_path: Path) -> None:
    found = _decide(tmp_path, [row("a"), row("a", "Door", IsGroupOf=1)])
    assert found.images.rule.tolist() == ["kept"]
    assert found.boxes.rule.tolist() == ["kept", "class"]


def test_images_holding_an_excluded_class_go(tmp_path: Path) -> None:
    found = _decide(tmp_path, [row("a"), row("b"), row("b", "Arch")], exclude_images_with=["Arch"])
    assert found.images.rule.tolist() == ["kept", "exclude_images_with"]
    assert found.boxes.rule.tolist() == ["kept", "image", "exclude_images_with"]


def test_images_without_a_box_of_the_class_are_left_out_unless_wanted(tmp_path: Path) -> None:
    rows, photos = [row("a"), row("b", "Door")], ["a", "b", "c"]
    assert _decide(tmp_path, rows, photos).images.rule.tolist() == ["kept", "class", "class"]
    assert _decide(tmp_path, rows, photos, keep_backgrounds=True).images.rule.tolist() == ["kept"] * 3


def test_merged_classes_become_one_and_separate_ones_keep_the_order_of_the_recipe(tmp_path: Path) -> None:
    rows = [row("a", "Window"), row("a", "Door"), row("a", "Arch")]
    assert _decide(tmp_path, rows, classes=["Arch", "Window"]).classes.tolist() == [1, -1, 0]
    merged = _decide(tmp_path, rows, classes=["Arch", "Window"], merge_as="Opening")
    assert merged.classes.tolist() == [0, -1, 0]


def test_a_repeated_box_is_kept_once_and_a_box_without_area_not_at_all(tmp_path: Path) -> None:
    found = _decide(tmp_path, [row("a"), row("a"), row("a", box=(0.5, 0.1, 0.5, 0.9))])
    assert found.boxes.rule.tolist() == ["kept", "duplicate_row", "no_area"]
    assert found.images.rule.tolist() == ["kept"]


def test_limit_prefers_the_same_images_when_others_are_added(tmp_path: Path) -> None:
    few = _decide(tmp_path / "few", [row(name) for name in "abcdefgh"], limit=4).images.kept
    more = _decide(tmp_path / "more", [row(name) for name in "abcdefghijkl"], limit=4).images.kept
    assert few.sum() == more.sum() == 4
    assert not (more[:8] & ~few).any()


def test_remaining_counts_follow_the_rules_in_order(tmp_path: Path) -> None:
    rows = [row("a"), row("a", "Door"), row("b", IsInside=1), row("c", "Arch"), row("d"), row("d", "Arch")]
    found = _decide(tmp_path, rows, exclude_images_with=["Arch"])
    assert [(step.rule, step.images, step.boxes) for step in found.remaining] == [
        ("read", 4, 6),
        ("class", 3, 3),
        ("IsGroupOf", 3, 3),
        ("IsDepiction", 3, 3),
        ("IsInside", 2, 2),
        ("exclude_images_with", 1, 1),
    ]


def test_nothing_left_and_unknown_class_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="rule IsGroupOf leaves no image"):
        _decide(tmp_path, [row("a", IsGroupOf=1)])
    with pytest.raises(UserError, match=r"classes: no class 'Widow' in the source; it has for example Window"):
        _decide(tmp_path, [row("a")], classes=["Widow"])
