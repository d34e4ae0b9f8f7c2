"""Weights that Darknet's authors published: where they are, how to know them, and what they were trained with.

Knows nothing about the numbers in the files; `weights.py` does. Sizes and hashes are those of the sources named beside
them, and None where no source was found. "LFS" is a pointer that somebody's repository keeps of the file.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.darknet.cfg import Cfg, Section, with_options
from pipeline.download import BytesProgress, download
from pipeline.errors import UserError, refuse
from pipeline.files import file_sha256, write_bytes

__all__ = [
    "KNOWN_WEIGHTS",
    "KnownWeights",
    "fetch_known",
    "known_weights",
    "recognised",
    "require_masks",
    "with_known_masks",
]

_Masks = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class KnownWeights:
    """One published file.

    Attributes:
        name: the file without `.weights`.
        urls: the official address first, then official mirrors; empty if the file must be cut out of `part_of`.
        size: bytes, or None if no source names them.
        sha256: hexadecimal, or None if no source names it.
        network: name of the shipped cfg that the file belongs to.
        layers: the file holds the layers before this one; None for all.
        masks: the anchors of each yolo head in training, in the cfg's order; None if the file holds no head.
        resize: how this author's Darknet brings an image to the size of the network's input.
        trained_on: the data set.
        classes: how many that data set has.
        licence: what the author says.
        part_of: name of the weights that this file is the beginning of, if it was never published itself.
    """

    name: str
    urls: tuple[str, ...]
    size: int | None
    sha256: str | None
    network: str
    layers: int | None
    masks: _Masks | None
    resize: Literal["letterbox", "stretch"]
    trained_on: Literal["ImageNet", "COCO"]
    classes: int
    licence: str
    part_of: str | None = None

    @property
    def file(self) -> str:
        """The name that the file has where it was published."""
        return self.name if ".conv." in self.name else f"{self.name}.weights"


def known_weights(name: str) -> KnownWeights:
    """Return the weights of that name.

    Raises:
        UserError: no weights of that name.

    >>> known_weights("yolov3-tiny").masks
    ((3, 4, 5), (1, 2, 3))
    """
    for known in KNOWN_WEIGHTS:
        if name in (known.name, known.file):
            return known
    names = ", ".join(known.name for known in KNOWN_WEIGHTS)
    raise refuse(f"weights {name}", "unknown", f"give a path to a .weights file or one of {names}")


def recognised(path: Path) -> KnownWeights | None:
    """The published weights that a file is, whatever its name, by its SHA-256; None for others."""
    size = path.stat().st_size
    same_size = [known for known in KNOWN_WEIGHTS if known.size == size and known.sha256 is not None]
    sha256 = file_sha256(path) if same_size else ""
    return next((known for known in same_size if known.sha256 == sha256), None)


def fetch_known(known: KnownWeights, folder: Path, progress: BytesProgress | None = None) -> Path:
    """Get the file to `folder`, unless it is there; returns its path. The next run goes on where this one broke off.

    Raises:
        UserError: a file of that name is there and is another one, or no address gives the right one.
    """
    target = folder / known.file
    if target.exists():
        _refuse_another_file(known, target)
    elif known.part_of is not None:
        whole = fetch_known(known_weights(known.part_of), folder, progress)
        write_bytes(target, _beginning(known, whole.read_bytes()))
    else:
        _download_from_any(known, target, progress)
    return target


def require_masks(known: KnownWeights, cfg: Cfg) -> None:
    """Refuse a cfg whose yolo heads predict other anchors than those the weights were trained with.

    With other masks the boxes have a wrong size: at 0,1,2 the official COCO YOLOv3-tiny loses half its mAP.
    """
    wrong = {index: mask for index, mask in _trained_masks(known, cfg).items() if _mask(cfg.layers[index]) != mask}
    if not wrong:
        return
    found = " and ".join(_text(_mask(cfg.layers[index])) for index in wrong)
    trained = " and ".join(_text(mask) for mask in wrong.values())
    remedy = " and ".join(
        f"mask={_text(mask)} in line {_mask_line(cfg.layers[index])}" for index, mask in wrong.items()
    )
    raise refuse(cfg.path, f"has mask {found} where {known.name} was trained with {trained}", f"write {remedy}")


def with_known_masks(known: KnownWeights, cfg: Cfg) -> Cfg:
    """Return `cfg` with the masks that the weights were trained with.

    >>> from pipeline.darknet.cfg import network_cfg
    >>> with_known_masks(known_weights("yolov3-tiny"), network_cfg("yolov3-tiny")).layers[-1].integers("mask")
    (1, 2, 3)
    """
    return with_options(cfg, {index: {"mask": _text(mask)} for index, mask in _trained_masks(known, cfg).items()})


def _trained_masks(known: KnownWeights, cfg: Cfg) -> dict[int, tuple[int, ...]]:
    """Layer index -> mask in training, of every yolo head of `cfg`; nothing if the weights hold no head."""
    if known.masks is None:
        return {}
    heads = [index for index, section in enumerate(cfg.layers) if section.kind == "yolo"]
    if len(heads) != len(known.masks):
        found = f"has {len(heads)} yolo heads, and {known.name} has {len(known.masks)}"
        raise refuse(cfg.path, found, f"use a cfg made from {known.network}")
    return dict(zip(heads, known.masks, strict=True))


def _mask(head: Section) -> tuple[int, ...]:
    return head.integers("mask", range(head.integer("num", 1, 1)))


def _mask_line(head: Section) -> int:
    return head.options["mask"][1] if "mask" in head.options else head.line


def _text(mask: tuple[int, ...]) -> str:
    return ",".join(str(anchor) for anchor in mask)


def _download_from_any(known: KnownWeights, target: Path, progress: BytesProgress | None) -> None:
    problems: list[UserError] = []
    for url in known.urls:
        try:
            download(url, target, size=known.size, sha256=known.sha256, progress=progress)
        except UserError as problem:
            problems.append(problem)
        else:
            return
    raise problems[0]  # the official address: what is wrong with a mirror helps nobody


def _refuse_another_file(known: KnownWeights, path: Path) -> None:
    remedy = f"remove it, then run again, or put the real {known.file} there"
    try:
        size = path.stat().st_size
        if known.size is not None and size != known.size:
            raise refuse(path, f"{size} bytes instead of {known.size}", remedy)
        if known.sha256 is not None:
            found = file_sha256(path)
            if found != known.sha256:
                raise refuse(path, f"sha256 {found} instead of {known.sha256}", remedy)
    except OSError as error:
        raise refuse(path, error.strerror or error, remedy) from None


def _beginning(known: KnownWeights, whole: bytes) -> bytes:
    """What Darknet's `partial` writes, no image seen and the layers before `known.layers`; but the version stays."""
    return whole[:12] + bytes(8) + whole[20 : known.size]


def _pjreddie(file: str) -> tuple[str, str]:
    """The address on Redmon's pages today, and the one before, which every tutorial names and which redirects there."""
    return f"https://data.pjreddie.com/files/{file}", f"https://pjreddie.com/media/files/{file}"


def _alexeyab(release: str, file: str) -> str:
    return f"https://github.com/AlexeyAB/darknet/releases/download/{release}/{file}"


def _hank_ai(file: str) -> str:
    """The Darknet that succeeded AlexeyAB's; its README sends there."""
    return f"https://github.com/hank-ai/darknet/releases/download/v2.0/{file}"


_YOLO_LICENCE = "public domain (YOLO LICENSE of pjreddie/darknet)"
_UNLICENSE = "public domain (Unlicense, as the README of AlexeyAB/darknet says)"

KNOWN_WEIGHTS = (
    KnownWeights(
        name="darknet",
        urls=_pjreddie("darknet.weights"),
        size=None,  # "28 MB" on pjreddie.com/darknet/imagenet
        # Renesas' Yocto recipe of OpenCV's benchmark for RZ/G2
        sha256="1b5ddb91b85aba5dfd552ec4528d3f9243779c92e7c698a4659c79ea1d87de59",
        network="darknet",
        layers=None,
        masks=None,
        resize="letterbox",
        trained_on="ImageNet",
        classes=1000,
        licence=_YOLO_LICENCE,
    ),
    KnownWeights(
        name="darknet19",
        urls=_pjreddie("darknet19.weights"),
        size=None,  # "80 MB" on pjreddie.com/darknet/imagenet
        # the same recipe
        sha256="10419470e9e2ffce52f3d32f7e9a3c206afdb7bde306caa2b7f7dbf097d6dabb",
        network="darknet19",
        layers=None,
        masks=None,
        resize="letterbox",
        trained_on="ImageNet",
        classes=1000,
        licence=_YOLO_LICENCE,
    ),
    KnownWeights(
        name="darknet19_448.conv.23",
        urls=_pjreddie("darknet19_448.conv.23"),
        size=79_327_120,  # LFS, and a training script that checks it; its header takes 16 bytes
        sha256="9b8b4d2e15200d7be487c85d70e18c6be6fffbd1401e9b4eb48e8e0f585d1a1a",  # LFS of ranata/wts alone
        network="darknet19",
        layers=23,
        masks=None,
        resize="letterbox",
        trained_on="ImageNet",
        classes=1000,
        licence=_YOLO_LICENCE,
    ),
    KnownWeights(
        name="darknet53",
        urls=_pjreddie("darknet53.weights"),
        size=None,  # "159 MB" on pjreddie.com/darknet/imagenet
        sha256=None,
        network="darknet53",
        layers=None,
        masks=None,
        resize="letterbox",
        trained_on="ImageNet",
        classes=1000,
        licence=_YOLO_LICENCE,
    ),
    KnownWeights(
        name="darknet53.conv.74",
        urls=_pjreddie("darknet53.conv.74"),
        size=162_482_580,  # what pjreddie.com's server names, in the log of a wget; LFS of VictorLin000
        # LFS of VictorLin000/YOLOv3_mask_detect, and a bootstrap script that downloads from data.pjreddie.com
        sha256="2495c2690283e4e0bc2050cbd4660b77a8074e14e9c11150c6412fd63db496a7",
        network="darknet53",
        layers=74,
        masks=None,
        resize="letterbox",
        trained_on="ImageNet",
        classes=1000,
        licence=_YOLO_LICENCE,
    ),
    KnownWeights(
        name="yolov3-tiny",
        urls=(*_pjreddie("yolov3-tiny.weights"), _hank_ai("yolov3-tiny.weights")),
        # a model list of OpenVINO's Model Optimizer: size, hash, and mask 1,2,3 in place of the cfg's 0,1,2
        size=35_434_956,
        sha256="dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c",
        network="yolov3-tiny",
        layers=None,
        masks=((3, 4, 5), (1, 2, 3)),
        resize="letterbox",
        trained_on="COCO",
        classes=80,
        licence=_YOLO_LICENCE,
    ),
    KnownWeights(
        name="yolov3-tiny.conv.15",
        urls=(),
        size=30_973_396,  # what the header and layers 0 to 14 of yolov3-tiny take
        sha256=None,  # the header says which Darknet made it
        network="yolov3-tiny",
        layers=15,
        masks=None,
        resize="letterbox",
        trained_on="COCO",
        classes=80,
        licence=_YOLO_LICENCE,
        part_of="yolov3-tiny",
    ),
    KnownWeights(
        name="yolov3",
        urls=_pjreddie("yolov3.weights"),
        size=248_007_048,  # Streamlit's self-driving demo
        sha256="523e4e69e1d015393a1b0a441cef1d9c7659e3eb2d7e15f793f060a21b32f297",  # an Arch package, Emgu CV
        network="yolov3",
        layers=None,
        masks=((6, 7, 8), (3, 4, 5), (0, 1, 2)),
        resize="letterbox",
        trained_on="COCO",
        classes=80,
        licence=_YOLO_LICENCE,
    ),
    KnownWeights(
        name="yolov4-tiny",
        urls=(_alexeyab("darknet_yolo_v4_pre", "yolov4-tiny.weights"), _hank_ai("yolov4-tiny.weights")),
        size=24_251_276,  # the log of Keras' download in Xtreme-Vision's README
        sha256="cf9fbfd0f6d4869b35762f56100f50ed05268084078805f0e7989efe5bb8ca87",  # Emgu CV; hank-ai's is the same
        network="yolov4-tiny",
        layers=None,
        masks=((3, 4, 5), (1, 2, 3)),
        resize="stretch",
        trained_on="COCO",
        classes=80,
        licence=_UNLICENSE,
    ),
    KnownWeights(
        name="yolov4-tiny.conv.29",
        urls=(_alexeyab("darknet_yolo_v4_pre", "yolov4-tiny.conv.29"),),
        size=19_789_716,  # LFS of achen353/Taiwanese-Traffic-Object-Detection, Xtreme-Vision's README
        sha256="3c794b8420b12ed2a609daa71d075880e7bd152671323f5eb3e8d9e57e31785b",  # that LFS, and a script
        network="yolov4-tiny",
        layers=29,
        masks=None,
        resize="stretch",
        trained_on="COCO",
        classes=80,
        licence=_UNLICENSE,
    ),
)
