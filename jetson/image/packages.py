"""Packages of the board, JetPack's above all, into the root file system: in a chroot, by qemu-user where it must be.

Their scripts want to run on the board itself, so this is the one step that needs an emulator of our own asking.
"""

import shutil
from pathlib import Path

from deploy.errors import UserError, refuse
from jetson.image.tree import remove_tree, write
from jetson.runner import Command, Runner

__all__ = ["install_packages"]

_PLACE = "var/cache/skylight-packages"
_POLICY = "usr/sbin/policy-rc.d"


def install_packages(root: Path, debs: tuple[Path, ...], runner: Runner) -> None:
    """Install .deb files by the dpkg of the root file system, all in one go; nothing is started.

    Raises:
        UserError: programs of the root file system do not run here, or dpkg refuses.
    """
    if not debs:
        return
    root = root.resolve()  # commands run in it
    folder = root / _PLACE
    folder.mkdir(parents=True, exist_ok=True)
    policy = root / _POLICY
    had_policy = policy.exists()
    try:
        try:
            runner.run(Command(("chroot", str(root), "/bin/true"), folder=root, as_root=True))
        except UserError as error:
            raise refuse(root, f"its programs do not run here ({error})", "apt-get install qemu-user-static") from None
        for deb in debs:
            shutil.copy(deb, folder)
        if not had_policy:
            write(policy, "#!/bin/sh\nexit 101\n", 0o755)  # invoke-rc.d starts no service
        names = [f"/{_PLACE}/{deb.name}" for deb in debs]
        words = ("chroot", str(root), "env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--install", *names)
        runner.run(Command(words, folder=root, as_root=True))
    finally:
        remove_tree(folder)
        if not had_policy:
            policy.unlink(missing_ok=True)
