"""Weights of ImageNet for torchvision's classifiers: a file that was named, or torchvision's own, downloaded once.

Knows nothing about what is in the files.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.download import download
from pipeline.errors import UserError, refuse
from pipeline.files import file_sha256

__all__ = ["NamedBytesProgress", "fetch_pretrained", "pretrained_files", "published_address"]

NamedBytesProgress = Callable[[str, int, int | None], None]  # name of the network, bytes done, bytes in all if known


def published_address(name: str) -> str:
    """Where torchvision's own default weights of a classifier are."""
    from torchvision.models import get_model_weights

    return str(get_model_weights(name).DEFAULT.url)


def pretrained_files(
    networks: Sequence[str], given: Mapping[str, Path], folder: Path, progress: NamedBytesProgress | None = None
) -> dict[str, Path]:
    """The file of every network: the one given, else the published one, downloaded into `folder` unless it is there.

    Raises:
        UserError: a given file that is not there or for a network not asked for; see also `fetch_pretrained`.
    """
    for name, path in given.items():
        if name not in networks:
            raise refuse(f"--pretrained {name}", "not among the networks", f"they are {', '.join(networks)}")
        if not path.is_file():
            raise refuse(f"--pretrained {name}={path}", "no such file", "correct the path")
    return {name: given.get(name) or fetch_pretrained(name, folder, progress) for name in dict.fromkeys(networks)}


def fetch_pretrained(
    name: str, folder: Path, progress: NamedBytesProgress | None = None, option: str | None = None
) -> Path:
    """Get torchvision's weights of a network into `folder`, unless they are there; returns their path.

    The file name holds the first digits of its SHA-256, as in resnet18-f37072fd.pth, and the content must have them.
    option: by which a file is named instead, for the message.

    Raises:
        UserError: another file of that name is there, or it cannot be downloaded; says what to fetch and where it goes.
    """
    address = published_address(name)
    target = folder / address.rsplit("/", 1)[-1]
    digits = _digits(target)
    if target.is_file():
        found = file_sha256(target)
        if not found.startswith(digits):
            remedy = f"remove it, then run again, or put the file of {address} there"
            raise refuse(target, f"sha256 {found} does not begin with {digits}", remedy)
        return target
    try:
        return download(
            address, target, sha256=digits, progress=None if progress is None else lambda *done: progress(name, *done)
        )
    except UserError as problem:
        remedy = (
            f"fetch {address} elsewhere and put it at {target}, or give {option or f'--pretrained {name}=FILE.pth'}"
        )
        raise refuse(
            f"pretrained weights of {name}", f"not here, and {str(problem).partition(';')[0]}", remedy
        ) from None


def _digits(file: Path) -> str:
    found = re.search(r"-([0-9a-f]{8,})$", file.stem)
    assert found, f"{file.name} names no checksum"  # torchvision's all do
    return found[1]
