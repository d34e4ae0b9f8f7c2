from pathlib import Path

import numpy as np
import pytest
from drawn_source import draw_source, row

from pipeline.curate import Recipe
from pipeline.curate.decisions import Decisions
from pipeline.curate.labels import ImagePredictions, labels_key, read_predictions, score_labels, write_predictions
from pipeline.curate.readers.open_images import read_open_images
from pipeline.curate.rules import apply_rules, output_classes
from pipeline.errors import UserError

Box = tuple[float, float, float, float]

BOXES: list[Box] = [(0.1, 0.1, 0.3, 0.3), (0.4, 0.1, 0.6, 0.3), (0.1, 0.5, 0.3, 0.7), (0.4, 0.5, 0.6, 0.7)]
SURE = 6.0  # log odds


def _decided(tmp_path: Path, boxes: dict[str, list[Box]]) -> Decisions:
    recipe = Recipe.model_validate(
        {"name": "set", "licence": "CC0-1.0", "source": {"format": "open-images"}, "classes": ["Window"]}
    )
    rows = [row(name, box=box) for name, some in boxes.items() for box in some]
    annotations = read_open_images(draw_source(tmp_path / "source", rows))
    decisions = Decisions("set", annotations, output_classes(annotations, recipe))
    apply_rules(decisions, recipe)
    return decisions


def _said(
    shifts: list[tuple[float, float]], boxes: list[Box], sure: float = SURE, score: float = 0.9
) -> ImagePredictions:
    count = len(boxes)
    return ImagePredictions(
        shifts=np.array(shifts, dtype=np.float64).reshape(-1, 2),
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        scores=np.full(count, score),
        classes=np.zeros(count, dtype=np.int64),
        objects=np.full(count, sure),
    )


def _scores(tmp_path: Path, boxes: list[Box], said: ImagePredictions, edges: float = 0.5) -> dict[str, float]:
    decisions = _decided(tmp_path, {"a": boxes})
    found, _ = score_labels(
        decisions,
        np.array(["photo"], dtype=object),
        np.full((len(boxes), 4), edges),
        {labels_key("photo", np.array(boxes, dtype=np.float64)): said},
    )
    return {name: float(values[0]) for name, values in found.items()}


def test_labels_that_agree_with_the_networks_have_no_defect(tmp_path: Path) -> None:
    scores = _scores(tmp_path, BOXES, _said([(0, 0)] * 4, BOXES))
    assert (scores["shifted"], scores["missing"], scores["merged"]) == (0, 0, 0)
    assert scores["cleanlab_overlooked"] > 0.9


def test_objects_without_a_box_are_missing_in_their_share_and_each_counts_once(tmp_path: Path) -> None:
    twice = [*BOXES, (0.41, 0.5, 0.61, 0.7)]  # the last object is found twice
    scores = _scores(tmp_path, BOXES[:2], _said([(0, 0)] * 2, twice))
    sure = 0.9 / (1 + np.exp(-SURE))
    assert scores["missing"] == pytest.approx(2 * sure / (2 + 2 * sure))
    assert scores["cleanlab_overlooked"] < 0.9
    doubted = _scores(tmp_path / "doubted", BOXES[:2], _said([(0, 0)] * 2, twice, sure=-3))
    assert doubted["missing"] == 0


def test_shifted_is_the_mean_of_what_network_and_edges_agree_on(tmp_path: Path) -> None:
    said = _said([(0, 0), (0, -0.2), (0.2, 0.1), (0.4, 0)], BOXES)
    assert _scores(tmp_path / "a", BOXES, said, edges=0.5)["shifted"] == pytest.approx(0.2 * np.sqrt(0.5))
    assert _scores(tmp_path / "b", BOXES, said, edges=0.99)["shifted"] == pytest.approx(0.2 * 0.1)
    assert _scores(tmp_path / "c", BOXES, said, edges=np.nan)["shifted"] == pytest.approx(0.2 * np.sqrt(0.4))


def test_merged_counts_the_objects_inside_one_box(tmp_path: Path) -> None:
    around = (0.05, 0.05, 0.65, 0.75)
    scores = _scores(tmp_path, [around], _said([(0, 0)], BOXES))
    assert scores["merged"] == pytest.approx(4 * 0.9, rel=0.01)


def test_predictions_for_other_boxes_or_another_photo_say_nothing(tmp_path: Path) -> None:
    decisions = _decided(tmp_path, {"a": BOXES[:2], "b": BOXES})
    stale = {
        labels_key("one", np.array(BOXES)): _said([(0, 0)] * 4, BOXES),  # boxes of b with the photo of a
        labels_key("two", np.array(BOXES[:2])): _said([(0, 0)] * 2, BOXES),
    }
    scores, box_scores = score_labels(decisions, np.array(["one", "two"], dtype=object), np.full((6, 4), 0.5), stale)
    assert all(np.isnan(values).all() for values in [*scores.values(), *box_scores.values()])


def test_predictions_survive_the_file_and_give_the_same_bytes(tmp_path: Path) -> None:
    said = {"k1": _said([(0.1, -0.2)] * 2, BOXES), "k0": _said([(0, 0)], []), "k2": _said([], BOXES[:1])}
    write_predictions(tmp_path / "a.parquet", said)
    write_predictions(tmp_path / "b.parquet", dict(reversed(said.items())))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    found = read_predictions(tmp_path / "a.parquet")
    assert set(found) == set(said)
    for key, one in said.items():
        for name in ("shifts", "boxes", "scores", "classes", "objects"):
            np.testing.assert_array_equal(getattr(found[key], name), getattr(one, name))
    write_predictions(tmp_path / "none.parquet", {})
    assert read_predictions(tmp_path / "none.parquet") == {}
    (tmp_path / "bad.parquet").write_text("no parquet")
    with pytest.raises(UserError, match=r"bad\.parquet: no predictions"):
        read_predictions(tmp_path / "bad.parquet")
