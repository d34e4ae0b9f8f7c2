"""A trained detector becomes a bundle. A script over the parts: export, ask the board, compare, write."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploy.bundle import MANIFEST, MODEL, Bundle, write_bundle
from deploy.manifest import COLOUR_ORDER, NAME, Model
from jetson.board import Board
from pipeline.errors import refuse
from pipeline.experiment import PARITY_PICTURES, ExportChoice
from pipeline.export.calibration import calibration_files, calibration_of
from pipeline.export.gate import parity_of
from pipeline.export.golden import golden_files
from pipeline.export.keys import SigningKey
from pipeline.export.lint import require_accepted
from pipeline.export.onnx import OPSETS, Exported, export_onnx
from pipeline.export.source import ExportSource
from pipeline.files import locked_name
from pipeline.networks.detector import Detector

__all__ = ["BundleWish", "Progress", "export_bundle"]

Progress = Callable[[str, int, int], None]  # what is compared, pictures done, pictures in all


@dataclass(frozen=True)
class BundleWish:
    """What the bundle is to be.

    Attributes:
        precisions: of the ONNX files at each size, fp32 first. sizes: of the input besides the detector's own, pixels.
        calibration: how many pictures of train go along, for INT8.
        parity_pictures: of val, that everyone is compared on; 0 for all of them.
        score_threshold, nms_threshold: that the drone flies with, 0 to 1.
    """

    name: str
    version: str
    board: Board
    precisions: tuple[str, ...] = ("fp32",)
    sizes: tuple[int, ...] = ()
    score_threshold: float = 0.25
    nms_threshold: float = 0.45
    calibration: int = 0
    parity_pictures: int = PARITY_PICTURES

    @classmethod
    def of(cls, choice: ExportChoice, board: Board) -> "BundleWish":
        """What an experiment file says."""
        return cls(
            choice.name,
            choice.version,
            board,
            choice.precisions,
            choice.sizes,
            choice.score_threshold,
            choice.nms_threshold,
            choice.calibration,
            choice.parity_pictures,
        )


def export_bundle(
    source: ExportSource,
    wish: BundleWish,
    bundles: Path,
    key: SigningKey | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Export a detector into `bundles/<name>-<version>/`.

    key: signs the bundle; None leaves it unsigned.

    Raises:
        UserError: the board does not take the model, or it departs from the trained one; nothing is left then. Or
            another process makes the same bundle.
    """
    _require_possible(wish, source)
    root = bundles / f"{wish.name}-{wish.version}"
    with locked_name(root):
        _require_same_weights(root, source)
        return _export(source, wish, root, key, progress)


def _export(
    source: ExportSource, wish: BundleWish, root: Path, key: SigningKey | None, progress: Progress | None
) -> Bundle:
    models: dict[Model, bytes] = {}
    reports = []
    for detector in _at_sizes(source.detector, wish.sizes):
        exported = _exported(detector, wish)
        size = f"{detector.width}x{detector.height}"

        def report(done: int, total: int, size: str = size) -> None:
            if progress:
                progress(size, done, total)

        frames = _calibration(source, detector, wish)
        calibration = calibration_of(frames)
        most = wish.parity_pictures
        parity = parity_of(detector, exported, source.images, source.resize, calibration, report, most)
        reports.append({"input": size, **parity.as_dict()})
        for precision, one in exported.items():
            name = _file_name(detector.width, precision, is_default_size=not models or size == reports[0]["input"])
            models[Model(name, detector.width, detector.height, precision)] = one.model
    golden = golden_files(models, source.images, source.resize, wish.score_threshold, wish.nms_threshold)
    frames = _calibration(source, source.detector, wish)
    manifest = {
        "name": wish.name,
        "version": wish.version,
        "classes": list(source.classes),
        "models": [model._asdict() for model in models],
        "resize_mode": source.resize,
        "colour_order": COLOUR_ORDER,
        "score_threshold": wish.score_threshold,
        "nms_threshold": wish.nms_threshold,
        "anchors": source.anchors,
        "masks": source.masks,
        "board": wish.board.for_drone(),
        "provenance": source.provenance,
        "parity": {"inputs": reports},
    }
    files = {model.file: content for model, content in models.items()}
    return write_bundle(root, {**files, **golden, **frames}, manifest, key.sign if key else None)


def _require_possible(wish: BundleWish, source: ExportSource) -> None:
    """Refuse, before anything is computed, what no bundle can hold or the board cannot run."""
    for what, text in (("name", wish.name), ("version", wish.version)):
        if not NAME.fullmatch(text):
            raise refuse(f"{what} of the bundle", repr(text), "give letters, digits and _.- alone, at most 64")
    for size in wish.sizes:
        if size < 32 or size % 32:
            raise refuse("size of the bundle", size, "give a multiple of 32")
    for precision in wish.precisions:
        wish.board.require_precision(precision)
    if wish.sizes and source.detector.width != source.detector.height:
        found = f"the network's input is {source.detector.width}x{source.detector.height}"
        raise refuse("another size", found, "more sizes are for square inputs")
    lowest, highest = wish.board.opset
    if not any(lowest <= opset <= highest for opset in OPSETS):
        allowed = f"export writes {', '.join(map(str, OPSETS))}"
        raise refuse(wish.board.name, f"reads opset {lowest} to {highest}", allowed)
    if wish.calibration:
        wish.board.require_precision("int8")
        if not source.train:
            raise refuse("calibration", "the set has no train split", "leave it out, or give another set")


def _require_same_weights(root: Path, source: ExportSource) -> None:
    """Refuse to replace a bundle of other weights: name and version say which it is, here and on the drones."""
    try:
        there = json.loads((root / MANIFEST).read_bytes())["provenance"]["weights_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if there != source.provenance["weights_sha256"]:
        found = f"is a bundle of other weights ({str(there)[:12]})"
        raise refuse(root, found, "give another version (version: in the experiment, or --version), or remove it")


def _calibration(source: ExportSource, detector: Detector, wish: BundleWish) -> dict[str, bytes]:
    if not wish.calibration:
        return {}
    return calibration_files(source.train, wish.calibration, detector.width, detector.height, source.resize)


def _at_sizes(detector: Detector, sizes: tuple[int, ...]) -> list[Detector]:
    own = (detector.width, detector.height)
    return [detector, *(detector.at_size(size) for size in dict.fromkeys(sizes) if (size, size) != own)]


def _exported(detector: Detector, wish: BundleWish) -> dict[str, Exported]:
    """By precision; the board must take the models, and the first one is asked about the most."""
    lowest, highest = wish.board.opset
    exported = export_onnx(detector, max(opset for opset in OPSETS if lowest <= opset <= highest))
    found = {precision: exported if precision == "fp32" else exported.half() for precision in wish.precisions}
    for one in found.values():
        require_accepted(one.model, wish.board)
    return found


def _file_name(size: int, precision: str, is_default_size: bool) -> str:
    """model.onnx, model.fp16.onnx, model.288.onnx, model.288.fp16.onnx."""
    stem, suffix = MODEL.split(".")
    parts = [] if is_default_size else [str(size)]
    parts += [] if precision == "fp32" else [precision]
    return ".".join([stem, *parts, suffix])
