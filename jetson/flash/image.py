"""The image that `make image` left: NVIDIA's tree, the record beside it, and what system.img in it holds."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import refuse
from deploy.files import new_file
from jetson.board import Board

__all__ = [
    "RECORD",
    "TREE",
    "Image",
    "file_hash",
    "note_system_image",
    "read_image",
    "require_board",
    "require_system_image",
    "system_image_note",
    "tree_version",
]

RECORD = "image.json"
TREE = "Linux_for_Tegra"
_HELD = "system.img.json"  # beside the record: what the system.img of the tree was made from
_BANNER = re.compile(r"#\s*R(\d+)\s*\(release\),\s*REVISION:\s*(\d+(?:\.\d+)*)")


@dataclass(frozen=True)
class Image:
    """An image in its folder.

    Attributes:
        tree: its Linux_for_Tegra.
        board: name of the board that it was made for.
        l4t: version that its record names, "32.7.6"; tree_l4t: that the tree itself says.
        sha256: of all that went into the root file system, from its record.
        module: the variant that it was made for; None if for any.
    """

    folder: Path
    tree: Path
    board: str
    l4t: str
    tree_l4t: str
    sha256: str
    module: str | None

    @property
    def system_image(self) -> Path:
        """The root file system as NVIDIA's scripts write it."""
        return self.tree / "bootloader/system.img"


def read_image(folder: Path) -> Image:
    """Read the record of an image and the version of its tree.

    Raises:
        UserError: it is no image, or not a whole one.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_bytes())
        board, l4t, sha256 = (str(record[key]) for key in ("board", "l4t", "sha256"))
        module = record.get("module")
    except PermissionError as error:  # an image holds secrets, and is for who made it
        raise refuse(path, error.strerror or error, "run it as root, or as the user who made the image") from None
    except OSError as error:
        raise refuse(path, error.strerror or error, "make an image with make image, or give its folder") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise refuse(path, "is not the record of an image: board, l4t, sha256", "make the image again") from None
    tree = folder / TREE
    return Image(folder, tree, board, l4t, tree_version(tree), sha256, None if module is None else str(module))


def require_board(image: Image, board: Board) -> None:
    """Check that an image is of a board, and that board, record and tree name one version of L4T.

    Raises:
        UserError: it is not, or they do not.
    """
    if image.board != board.name:
        raise refuse(image.folder, f"is an image for {image.board}, not {board.name}", "give that board, or its image")
    wanted = board.versions.get("l4t")
    if image.tree_l4t != wanted:
        remedy = f"make the image from L4T {wanted}, or write a board file with your version"
        raise refuse(image.tree, f"is L4T {image.tree_l4t}; {board.name} has {wanted}", remedy)
    if image.l4t != image.tree_l4t:
        raise refuse(image.folder / RECORD, f"says L4T {image.l4t}, its tree {image.tree_l4t}", "make the image again")


def note_system_image(image: Image, holds: str) -> None:
    """Keep what system.img holds: the SHA-256 of the image, or of the clone.

    Raises:
        PermissionError: the image is another user's; `system_image_note` is what to write where.
    """
    target, text = system_image_note(image, holds)
    with new_file(target) as path:
        path.write_text(text)


def system_image_note(image: Image, holds: str) -> tuple[Path, str]:
    """The file that says what system.img holds, and what is to stand in it."""
    return image.folder / _HELD, json.dumps({"holds": holds, **_looks(image.system_image)}) + "\n"


def require_system_image(image: Image) -> None:
    """Check that the system.img which is there is of this image: reusing another would flash something else.

    Raises:
        UserError: there is none, or nothing says that it is.
    """
    remedy = "flash once without reuse"
    try:
        looks = _looks(image.system_image)
        held = json.loads((image.folder / _HELD).read_bytes())
    except FileNotFoundError as error:
        raise refuse(error.filename, "no such file", remedy) from None
    except ValueError:
        held = {}
    if held != {"holds": image.sha256, **looks}:
        raise refuse(image.system_image, "was not made from this image", remedy)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _looks(path: Path) -> dict[str, int]:
    found = path.stat()
    return {"bytes": found.st_size, "modified_ns": found.st_mtime_ns}


def tree_version(tree: Path) -> str:
    """Version of L4T that a tree is, and that the root file system in it says too.

    Sources: flash.sh (L4T 32.7) prints nv_tegra/bsp_version or, without one, the first line of nv_tegra_release.
    """
    versions = [version for version in (_bsp_version(tree), _release(tree)) if version]
    if not versions:
        raise refuse(tree, "says no version of L4T (nv_tegra/bsp_version)", "give the folder of a whole image")
    if len(set(versions)) > 1:
        raise refuse(tree, f"is L4T {versions[0]}, its root file system {versions[1]}", "make the image again")
    return versions[0]


def _bsp_version(tree: Path) -> str | None:
    path = tree / "nv_tegra/bsp_version"
    if not path.is_file():
        return None
    values = dict(re.findall(r"^BSP_(BRANCH|MAJOR|MINOR)=\"?(\d+)\"?\s*$", path.read_text(errors="replace"), re.M))
    parts = [values.get(key) for key in ("BRANCH", "MAJOR", "MINOR")]
    return ".".join(part for part in parts if part is not None) if all(parts) else None


def _release(tree: Path) -> str | None:
    path = tree / "rootfs/etc/nv_tegra_release"
    if not path.is_file():
        return None
    found = _BANNER.search(path.read_text(errors="replace"))
    return f"{found[1]}.{found[2]}" if found else None
