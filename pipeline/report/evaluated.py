"""What an evaluation found, for a terminal."""

from pipeline.report.columns import ruled
from pipeline.train.evaluate import Evaluated
from pipeline.train.metrics import COUNTED

__all__ = ["evaluation_text"]


def evaluation_text(evaluated: Evaluated) -> str:
    """What was measured, for a terminal: a row per class, then all together."""
    scores = evaluated.scores
    rows = [["class", "AP@0.5 %", "labels", "found", "right"]]
    for name, ap, counts in zip(evaluated.data.classes, scores.ap50_per_class, scores.counts_per_class, strict=True):
        if counts.labels or counts.found:
            rows.append([name, _percent(ap), str(counts.labels), str(counts.found), str(counts.right)])
    right, found, labels = (
        sum(getattr(c, key) for c in scores.counts_per_class) for key in ("right", "found", "labels")
    )
    lines = [
        f"{evaluated.network} with {evaluated.weights}",
        f"on {evaluated.split} of {evaluated.data.root}: {len(evaluated.images)} images, {evaluated.width} x "
        f"{evaluated.height} pixels, resize {evaluated.resize}, {evaluated.seconds:.1f} s on {evaluated.device}",
        "",
        *ruled(rows),
        "",
        f"mAP@0.5 {_percent(scores.ap50)} %",
        f"above {COUNTED}: precision {_percent(scores.precision)} %, recall {_percent(scores.recall)} %, "
        f"F1 {_percent(scores.f1)} %; right {right}, wrong {found - right}, missed {labels - right}",
        f"COCO mAP@0.5:0.95 {_percent(scores.coco_map)} %; small {_percent(scores.ap_small)}, medium "
        f"{_percent(scores.ap_medium)}, large {_percent(scores.ap_large)}",
    ]
    empty = sum(counts.labels == 0 for counts in scores.counts_per_class)
    if empty:
        lines[-3] += (
            f" over the {len(scores.counts_per_class) - empty} classes that have boxes; "
            f"detector map counts the other {empty} as 0 and prints {_percent(scores.darknet_map)} %"
        )
    return "\n".join(lines)


def _percent(value: float) -> str:
    return "-" if value != value else f"{100 * value:.2f}"
