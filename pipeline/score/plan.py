"""Which of the four classic cases of transfer a start and a target are, and what to do in it, before any training.

The cases are those of the course notes on convolutional networks (CS231n, "Transfer Learning"): little or much new
data, similar to the old or not. Size and similarity are measured; what they call for is a rule of thumb, and `advise`
measures that too. Knows nothing about experiments.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.curated import CuratedSet, LabelledImage
from pipeline.errors import refuse
from pipeline.networks.detector import Detector
from pipeline.score.similarity import Similarity, measure_similarity
from pipeline.score.start import StartNetwork
from pipeline.train.dataset import load_images

__all__ = ["LARGE", "SIMILAR", "Plan", "Progress", "make_plan"]

LARGE = 1000  # pictures; about as many as a class has in ImageNet
SIMILAR = 0.5  # half-way between the start's own pictures and scrambled ones
_MOST_PICTURES = 64  # that similarity is measured on
_DOUBT = "but the start hardly tells its own photos from scrambled ones: similarity means little; ask skylight advise"
_SMALLER_RATE = 0.1  # of the learning rate, where every trained layer goes on learning

Progress = Callable[[str, int, int], None]  # what is read, pictures done, pictures in all


@dataclass(frozen=True)
class Plan:
    """What was measured, and what it calls for.

    Attributes:
        images, boxes: in the target's train split.
        large_from, similar_from: the limits.
        freeze: layers from 0 that stay as they are.
        layers: the start's layers before this one are taken, the others begin at random; None takes all.
        learning_rate: for the stage.
        reasons: in words, one for each recommendation.
    """

    target: Path
    start: str
    images: int
    boxes: int
    large_from: int
    similarity: Similarity
    similar_from: float
    freeze: int
    layers: int | None
    learning_rate: float
    reasons: tuple[str, ...]

    @property
    def is_large(self) -> bool:
        """Whether the target has many pictures."""
        return self.images >= self.large_from

    @property
    def is_similar(self) -> bool:
        """Whether the start saw the like."""
        return self.similarity.value >= self.similar_from

    @property
    def case(self) -> str:
        """One of four."""
        return f"{'large' if self.is_large else 'small'} and {'similar' if self.is_similar else 'different'}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        similarity = asdict(self.similarity) | {"value": self.similarity.value}
        return asdict(self) | {"target": str(self.target), "case": self.case, "similarity": similarity}


def make_plan(
    target: CuratedSet,
    start: StartNetwork,
    learning_rate: float,
    large_from: int = LARGE,
    similar_from: float = SIMILAR,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Measure size and similarity, and say what follows. learning_rate: of a training from scratch.

    Raises:
        UserError: nothing to train on, or no trained layer in the start's backbone.
    """
    pictures = target.splits["train"]
    boxes = sum(len(image.boxes) for image in pictures)
    if not boxes:
        raise refuse(target.root, "no box in the train split", "label at least one object")
    detector = start.detector
    backbone = tuple(index for index in start.trained if index < detector.backbone)
    if not backbone:
        raise refuse(start.origin, "holds no layer of the backbone", "give weights that were trained")

    def tensors(what: str, images: tuple[LabelledImage, ...]) -> torch.Tensor:
        some = images[:: -(-len(images) // _MOST_PICTURES)]
        report = (lambda done: progress(what, done, len(some))) if progress else None
        return load_images(some, detector.width, detector.height, start.resize, cache, report).images

    own = start.source.splits["val"] or start.source.splits["train"] if start.source else ()
    source = tensors("photos of the start", own) if own else None
    similarity = measure_similarity(detector, backbone, tensors("photos of the target", pictures), source)
    is_large, is_similar = len(pictures) >= large_from, similarity.value >= similar_from
    freeze, why_freeze = _freeze(detector, start, is_large, is_similar)
    layers, why_head = _head(start, target.classes)
    is_whole = len(backbone) == sum(index < detector.backbone for index in detector.weighted_layers)
    doubt = () if similarity.is_telling else (_DOUBT,)
    rate, why_rate = _rate(learning_rate, freeze, is_similar and is_whole)
    return Plan(
        target=target.root,
        start=start.origin,
        images=len(pictures),
        boxes=boxes,
        large_from=large_from,
        similarity=similarity,
        similar_from=similar_from,
        freeze=freeze,
        layers=layers,
        learning_rate=rate,
        reasons=(why_freeze, why_head, why_rate, *doubt),
    )


def _freeze(detector: Detector, start: StartNetwork, is_large: bool, is_similar: bool) -> tuple[int, str]:
    """Layers to freeze; never one that the start did not train."""
    weighted = [index for index in detector.weighted_layers if index < detector.backbone]
    if is_large:
        return 0, "freeze nothing: there is enough to train every layer, and a start is no worse than chance"
    if is_similar:
        count = detector.backbone
        why = "freeze the backbone: too little to train it, and what it finds is what is needed"
    else:
        count = weighted[len(weighted) // 2]
        why = "freeze the early half of the backbone: edges and colours serve anywhere, what was made of them does not"
    untrained = [index for index in weighted if index not in start.trained]
    if untrained and untrained[0] < count:
        return untrained[0], f"{why}; no further than layer {untrained[0]}, which the start did not train"
    return count, why


def _head(start: StartNetwork, classes: tuple[str, ...]) -> tuple[int | None, str]:
    """The layers to take from the start, by what its heads are for."""
    has_head = any(index >= start.first_head for index in start.trained)
    if has_head and start.classes == classes:
        return None, "keep the head: it is for the same classes"
    if has_head and start.classes is None:
        return None, "keep the head if it is for the same classes, which the file does not say; else take fewer layers"
    return start.first_head, f"a new head: layers from {start.first_head} on begin at random"


def _rate(rate: float, freeze: int, is_nearly_right: bool) -> tuple[float, str]:
    if freeze or not is_nearly_right:
        return rate, "the full learning rate: what learns is new, or far from what it should be"
    return rate * _SMALLER_RATE, "a tenth of the learning rate: every layer learns, and most are nearly right"
