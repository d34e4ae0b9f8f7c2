"""The published figures that the page shows beside ours. Theirs, never mixed with ours.

V. Kuruvilla et al., "Easily Trainable Neural Network Using Transfer Learning", Tables I to III: mAP in % of a
Tiny-YOLOv3 on one window, by start, frozen layers and iterations.
"""

from pipeline.report.blocks import Block, Fold, Table, Text

__all__ = ["published_tables"]

_ITERATIONS = {
    "ImageNet": (1000, 1500, 1800, 2000),
    "COCO": (1000, 1500, 1800, 2000),
    "windows": (100, 200, 300, 400),
}
_MAP: dict[str, dict[int, tuple[float, ...]]] = {
    "ImageNet": {0: (35, 67, 92, 91), 13: (0.4, 5, 3, 2.98), 20: (0.7, 0.7, 0.7, 0.8)},
    "COCO": {0: (89, 96, 96.4, 98), 13: (60, 77, 80, 79), 20: (4, 23, 23, 27)},
    "windows": {0: (95, 98.1, 98.3, 98.2), 13: (93.08, 94.81, 96.8, 95.1), 20: (66.9, 69.7, 72.2, 72.8)},
}
_CONDITIONS = (
    "Theirs: one window, one training for each row (no seeds, so no spread), a K80, and a learning rate that rises "
    "over the first 1000 iterations in some rows only: equal iterations are not equal training. Training and test "
    "pictures may show the same scene. Freezing 20 layers from ImageNet or COCO freezes layers never trained."
)


def published_tables(ours: str) -> Block:
    """Their three tables, folded away, with what differs. ours: the conditions here, in a sentence."""
    tables = []
    for numeral, (start, rows) in zip(("I", "II", "III"), _MAP.items(), strict=True):
        head = ("frozen layers", *(f"@{iteration}" for iteration in _ITERATIONS[start]))
        cells = tuple((str(frozen), *(f"{value:g}" for value in values)) for frozen, values in rows.items())
        tables.append(Table(f"Published, Table {numeral}: start {start}, mAP in %", head, cells))
    about = (Text(_CONDITIONS), Text(f"Ours: {ours} Read the two as shapes, not as a race."))
    return Fold("The published Tables I to III, and where the conditions differ", (*about, *tables))
