from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_source import draw_source, row

from pipeline.curate import Recipe
from pipeline.curate.decisions import Decisions
from pipeline.curate.readers.open_images import read_open_images
from pipeline.curate.rules import apply_rules, apply_size_rules, output_classes
from pipeline.errors import UserError


def _decide(tmp_path: Path, rows: list[str], photos: list[str] | None = None, **keys: Any) -> Decisions:
    recipe = Recipe.model_validate(
        {"name": "set", "licence": "CC0-1.0", "source": {"format": "open-images"}, "classes": ["Window"]} | keys
    )
    annotations = read_open_images(draw_source(tmp_path / "source", rows, photos))
    decisions = Decisions("set", annotations, output_classes(annotations, recipe))
    apply_rules(decisions, recipe)
    decisions.finish()
    return decisions


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


def _judge_sizes(tmp_path: Path, rows: list[str], size: tuple[int, int], **keys: Any) -> Decisions:
    """Like `_decide`, with the rules that need sizes, every photo being of the same."""
    recipe = Recipe.model_validate(
        {"name": "set", "licence": "CC0-1.0", "source": {"format": "open-images"}, "classes": ["Window"]} | keys
    )
    annotations = read_open_images(draw_source(tmp_path / "source", rows))
    decisions = Decisions("set", annotations, output_classes(annotations, recipe))
    apply_rules(decisions, recipe)
    apply_size_rules(decisions, recipe, np.tile(np.array(size, dtype=np.float64), (len(annotations.image_ids), 1)))
    decisions.finish()
    return decisions


def test_occluded_share_counts_only_boxes_of_which_somebody_said_so(tmp_path: Path) -> None:
    box = (0, 0, 0.1, 0.1)
    rows = [
        row("a", IsOccluded=1),
        row("a", box=box, IsOccluded=-1),
        row("b", IsOccluded=1),
        row("b", box=box, IsOccluded=0),
        row("c", IsOccluded=-1),
    ]
    found = _decide(tmp_path, rows, limits={"occluded_share": 0.5})
    assert found.images.rule.tolist() == ["occluded_share", "kept", "kept"]
    assert (found.images.value[0], found.images.threshold[0]) == (1, 0.5)
    assert _decide(tmp_path, rows, limits={"truncated_share": 0.1}).images.kept.all()


def test_too_few_and_too_many_boxes_drop_the_image(tmp_path: Path) -> None:
    boxes = [(0.1 * place, 0, 0.1 * place + 0.05, 0.5) for place in range(4)]
    rows = [row("a"), *(row("b", box=box) for box in boxes[:2]), *(row("c", box=box) for box in boxes)]
    found = _decide(tmp_path, rows, limits={"boxes_per_image": [2, 3]})
    assert found.images.rule.tolist() == ["boxes_per_image", "kept", "boxes_per_image"]
    assert found.images.threshold.tolist()[::2] == [2, 3]


def test_second_box_over_an_object_goes_and_its_image_stays(tmp_path: Path) -> None:
    rows = [
        row("a", box=(0.1, 0.1, 0.5, 0.5)),
        row("a", "Door", box=(0.1, 0.1, 0.5, 0.5)),
        row("a", box=(0.12, 0.1, 0.52, 0.5)),
        row("a", box=(0.45, 0.1, 0.9, 0.5)),
    ]
    found = _decide(tmp_path, rows, limits={"overlap": 0.5})
    assert found.images.kept.all()
    assert found.boxes.rule.tolist() == ["kept", "class", "overlap", "kept"]
    assert found.boxes.value[2] == pytest.approx(0.38 / 0.42, abs=1e-6)
    both = _decide(tmp_path / "both", rows, classes=["Window", "Door"], limits={"overlap": 0.5})
    assert both.boxes.rule.tolist() == ["kept", "kept", "overlap", "kept"]


def test_smallest_side_is_that_after_the_networks_resize(tmp_path: Path) -> None:
    rows = [row("a", box=(0, 0, 0.5, 0.5)), row("b", box=(0.1, 0.1, 0.5, 0.2))]  # of 1000 x 500: b is 400 x 50 pixels
    limits, size = {"smallest_side": 30}, (1000, 500)
    stretched = {"width": 416, "height": 416, "resize": "stretch"}  # b becomes 166.4 x 41.6
    assert _judge_sizes(tmp_path / "stretch", rows, size, network=stretched, limits=limits).images.kept.all()
    boxed = {"width": 416, "height": 416, "resize": "letterbox"}  # b becomes 166.4 x 20.8
    found = _judge_sizes(tmp_path / "letterbox", rows, size, network=boxed, limits=limits)
    assert found.images.rule.tolist() == ["kept", "smallest_side"]
    assert found.boxes.value[1] == pytest.approx(20.8)
    assert found.strain.tolist() == pytest.approx([30 / 104, 30 / 20.8])


def test_bands_are_medians_and_mads_of_aspect_in_pixels_and_of_size(tmp_path: Path) -> None:
    sides = [(0.20, 0.20), (0.22, 0.20), (0.20, 0.22), (0.21, 0.20), (0.20, 0.21), (0.6, 0.2), (0.8, 0.8)]
    rows = [row(name, box=(0, 0, *side)) for name, side in zip("abcdefg", sides, strict=True)]
    found = _judge_sizes(tmp_path, rows, (200, 100), limits={"aspect_band": 6, "size_band": 12})
    assert found.images.rule.tolist() == ["kept"] * 5 + ["aspect_band", "size_band"]
    aspects = np.log([2 * width / height for width, height in sides])
    expected = abs(aspects - np.median(aspects)) / np.median(abs(aspects - np.median(aspects)))
    assert found.boxes.value[5] == pytest.approx(expected[5])
    assert found.strain[5] == pytest.approx(expected[5] / 6)


def test_what_a_person_says_wins_over_every_rule(tmp_path: Path) -> None:
    rows = [row("a", IsGroupOf=1), row("b"), row("c"), row("d"), row("e", IsGroupOf=1)]
    recipe = Recipe.model_validate(
        {"name": "set", "licence": "CC0-1.0", "source": {"format": "open-images"}, "classes": ["Window"]}
    )
    annotations = read_open_images(draw_source(tmp_path / "source", rows))
    said = {"a": "keep", "b": "drop", "c": "fix", "elsewhere": "drop"}
    decisions = Decisions("set", annotations, output_classes(annotations, recipe), said)
    apply_rules(decisions, recipe)
    decisions.finish()
    assert decisions.images.rule.tolist() == ["kept", "review_drop", "review_fix", "kept", "IsGroupOf"]
    assert decisions.boxes.rule.tolist() == ["kept", "image", "image", "kept", "IsGroupOf"]
    assert decisions.images.overruled.tolist() == ["IsGroupOf", "", "", "", ""]
