"""An ext4 file from a tree, without mounting anything. The same tree gives the same file system, but for its times."""

import hashlib
import uuid
from pathlib import Path

from deploy.files import new_file
from jetson.flash.host import folder_bytes
from jetson.package.build import epoch
from jetson.runner import Command, Runner

__all__ = ["make_ext4"]

_MIB = 2**20


def make_ext4(tree: Path, path: Path, runner: Runner, size: int | None = None, label: str = "skylight") -> Path:
    """Write a file system that holds `tree` to `path`. Needs to be root, or owners are lost.

    Args:
        size: in bytes; a third more than the tree takes where none is given.

    Raises:
        UserError: mke2fs is not there, or the tree does not fit.
    """
    blocks = (size or folder_bytes(tree) * 4 // 3 + 128 * _MIB) // 4096
    number = str(uuid.UUID(bytes=hashlib.sha256(label.encode()).digest()[:16]))
    with new_file(path, 0o600) as part:  # it holds what only root may read
        environment = ("env", f"SOURCE_DATE_EPOCH={epoch()}", f"E2FSPROGS_FAKE_TIME={epoch()}")
        options = ("-t", "ext4", "-q", "-F", "-L", label, "-U", number, "-E", f"hash_seed={number},root_owner=0:0")
        # 64bit and metadata_csum: the 4.9 kernel of L4T 32 reads them, its U-Boot does not.
        words = ("mke2fs", *options, "-O", "^64bit,^metadata_csum", "-d", str(tree.resolve()))
        runner.run(Command((*environment, *words, "-b", "4096", str(part), str(blocks)), folder=path.parent))
    return path
