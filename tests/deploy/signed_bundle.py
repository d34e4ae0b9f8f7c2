"""A signed bundle with golden frames on drawn pictures, small enough to be copied and damaged hundreds of times."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from colour_model import SIZE, colour_model, square

from deploy.bundle import MANIFEST, Bundle, write_bundle
from deploy.manifest import Model
from deploy.signature import SIGNATURE
from deploy.strict_json import canonical_json
from pipeline.curated import LabelledImage
from pipeline.export.golden import golden_files
from pipeline.export.keys import SigningKey, new_key, read_key

MODEL = Model("model.onnx", SIZE, SIZE, "fp32")
ABOUT: dict[str, Any] = {
    "name": "colours", "version": "1", "classes": ["red", "green"], "models": [MODEL._asdict()],
    "resize_mode": "stretch", "colour_order": "rgb", "score_threshold": 0.6, "nms_threshold": 0.45,
    "anchors": [], "masks": [], "board": {"name": "workstation"}, "provenance": {}, "parity": {},
}  # fmt: skip


def make_key(folder: Path, name: str) -> SigningKey:
    """A new pair in `folder`."""
    new_key(folder, name)
    return read_key(folder / f"{name}.key")


def draw_frames(folder: Path) -> list[LabelledImage]:
    """Three pictures with a red or green cell, one dark."""
    folder.mkdir(parents=True, exist_ok=True)
    colours = [(250, 20, 20), (20, 240, 20), (250, 30, 20), (20, 20, 20)]
    images = []
    for number, colour in enumerate(colours):
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), square(number, 1, colour, width=96, height=64))
        count = int(max(colour) > 20)
        images.append(
            LabelledImage(path, path.stem, 96, 64, np.zeros((count, 4), np.float32), np.zeros(count, np.int64))
        )
    return images


def write_signed(folder: Path, key: SigningKey, models: dict[Model, bytes] | None = None) -> Bundle:
    """The bundle `folder`, with golden frames, signed by `key`."""
    models = models or {MODEL: colour_model()}
    golden = golden_files(models, draw_frames(folder.parent / "frames"), "stretch", 0.6, 0.45)
    files = {model.file: data for model, data in models.items()} | golden
    about = ABOUT | {"models": [model._asdict() for model in models]}
    return write_bundle(folder, files, about, key.sign)


def rewrite(root: Path, key: SigningKey | None, data: bytes) -> None:
    """Replace bundle.json, and sign it anew where a key is given."""
    (root / MANIFEST).write_bytes(data)
    if key is not None:
        (root / SIGNATURE).write_bytes(key.sign(data))


def edit(root: Path, key: SigningKey | None, **changes: Any) -> None:
    """Change keys of the manifest, "gone" removes one, and sign it anew where a key is given."""
    content = json.loads((root / MANIFEST).read_bytes()) | changes
    rewrite(root, key, canonical_json({name: value for name, value in content.items() if value != "gone"}))
