"""Serves a review of drawn photos, whose boxes are known to the pixel: `drawn_review.py CACHE PORT`."""

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from pipeline.curate.review import Candidate, load_review, open_review

NAME = "drawn"
WALL = Candidate(
    image_id="",
    path=Path(),
    boxes=np.array([[0.25, 0.25, 0.5, 0.625], [0.6, 0.2, 0.8, 0.5]]),
    labels=("Window", "Window"),
    box_scores={"edge_support": np.array([0.5, np.nan])},
    box_rules=("kept", "kept"),
    rule="kept",
    split="train",
    scores={"blur": 0.1},
    borderline=False,
    verdict=None,
    predictions=np.array([[0.26, 0.26, 0.5, 0.6]]),
    prediction_scores=np.array([0.7]),
    prediction_labels=("Window",),
)


def drawn_candidates(folder: Path) -> list[Candidate]:
    """Four photos that are kept, the first of them borderline, and two that a flag dropped."""
    candidates = []
    for index in range(6):
        image = np.full((240, 320, 3), 60 + 20 * index, np.uint8)
        cv2.rectangle(image, (80, 60), (160, 150), (200, 200, 200), -1)
        path = folder / f"photo{index}.png"
        cv2.imwrite(str(path), image)
        is_kept = index < 4
        rule, split = ("kept", "train") if is_kept else ("IsGroupOf", None)
        candidates.append(replace(WALL, image_id=path.stem, path=path, rule=rule, split=split, borderline=index == 0))
    return candidates


if __name__ == "__main__":
    load_review(NAME, drawn_candidates(Path(sys.argv[1])), Path(sys.argv[1]))
    print(open_review(NAME, Path(sys.argv[1]), int(sys.argv[2]), say=lambda line: print(line, flush=True)))
