"""The user of an image: NVIDIA's script makes it, with a password that nobody knows, and then the key or hash comes.

Knows nothing of the system's own users.
"""

import secrets
from pathlib import Path

from deploy.errors import refuse
from jetson.image.system import System, secret
from jetson.image.tree import make_folder, write
from jetson.package.build import epoch
from jetson.runner import Command, Runner

__all__ = ["create_user", "join_groups", "require_way_in"]

_SCRIPT = "tools/l4t_create_default_user.sh"
_DAY = 86400


def require_way_in(system: System) -> dict[str, str | None]:
    """Key and hash of the user, as they will be in the image.

    Raises:
        UserError: there is neither: there is no default password.
    """
    user = system.user
    ways = {"ssh_key": secret(user.ssh_key, "ssh_key"), "password_hash": secret(user.password_hash, "password_hash")}
    if not any(ways.values()):
        remedy = "give --ssh-key FILE.pub, or user.ssh_key or user.password_hash in --system FILE"
        raise refuse(f"user {user.name}", "neither SSH key nor password hash, and there is no default password", remedy)
    return ways


def create_user(tree: Path, system: System, hostname: str, runner: Runner) -> None:
    """Make the user without the dialogue of the first boot; whoever asks for it has accepted NVIDIA's licence.

    The script writes the hash of its password with a salt of its own: what is in the image is written over it, so that
    the same inputs give the same file.
    """
    ways = require_way_in(system)
    name, root = system.user.name, tree / "rootfs"
    words = (f"./{_SCRIPT}", "-u", name, "-p", secrets.token_urlsafe(24), "-n", hostname, "--accept-license")
    runner.run(Command(words, folder=tree, as_root=True))
    _set_hash(root, name, ways["password_hash"])
    uid, gid = _numbers(root, name)
    home = root / "home" / name
    make_folder(home, 0o755, uid, gid)
    key = ways["ssh_key"]
    if key is not None:
        make_folder(home / ".ssh", 0o700, uid, gid)
        write(home / ".ssh/authorized_keys", key + "\n", 0o600, uid, gid)
    if ways["password_hash"] is None:  # sudo would ask for a password that there is not
        write(root / "etc/sudoers.d" / f"50-skylight-{name}", f"{name} ALL=(ALL) NOPASSWD:ALL\n", 0o440)


def join_groups(root: Path, name: str, groups: tuple[str, ...]) -> None:
    """Make a user a member of those of the groups that there are, in group and in gshadow."""
    for path in (root / "etc/group", root / "etc/gshadow"):
        if not path.is_file():
            continue
        lines = []
        for line in path.read_text().splitlines():
            fields = line.split(":")
            members = [one for one in fields[-1].split(",") if one]
            if fields[0] in groups and name not in members:
                line = ":".join([*fields[:-1], ",".join([*members, name])])
            lines.append(line)
        path.write_text("\n".join(lines) + "\n")


def _set_hash(root: Path, name: str, password_hash: str | None) -> None:
    """Its line in shadow; without a hash nobody logs in by password."""
    path = root / "etc/shadow"
    line = f"{name}:{password_hash or '*'}:{epoch() // _DAY}:0:99999:7:::"
    lines = [line if one.split(":")[0] == name else one for one in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")


def _numbers(root: Path, name: str) -> tuple[int, int]:
    for line in (root / "etc/passwd").read_text().splitlines():
        fields = line.split(":")
        if fields[0] == name:
            return int(fields[2]), int(fields[3])
    raise refuse(root / "etc/passwd", f"has no user {name}", f"{_SCRIPT} did not make it: see the log")
