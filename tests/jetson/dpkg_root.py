"""A root file system that dpkg takes: accounts, and a database that says what is installed. Holds no program."""

from pathlib import Path

_INSTALLED = """Package: {name}
Status: install ok installed
Version: {version}
Architecture: arm64
Maintainer: nobody
Description: a stand-in

"""


def dpkg_files(python: str = "3.6.7") -> dict[str, bytes]:
    """Files by their path: what dpkg, useradd and the package's scripts read."""
    status = "".join(_INSTALLED.format(name=name, version=v) for name, v in (("python3", python), ("passwd", "1:4.5")))
    return {
        "etc/passwd": b"root:x:0:0:root:/root:/bin/bash\n",
        "etc/group": b"root:x:0:\ndialout:x:20:\nsudo:x:27:\nvideo:x:44:\n",
        "etc/shadow": b"root:*:18000:0:99999:7:::\n",
        "etc/gshadow": b"root:*::\ndialout:*::\nsudo:*::\nvideo:*::\n",
        "etc/login.defs": b"SYS_UID_MAX 999\nSYS_GID_MAX 999\n",
        "var/lib/dpkg/status": status.encode(),
        "var/lib/dpkg/available": b"",
        "var/lib/dpkg/info/format": b"1\n",
        "var/lib/dpkg/updates/.keep": b"",
        "var/lib/dpkg/triggers/.keep": b"",
    }


def make_dpkg_root(folder: Path) -> Path:
    """Write them below `folder`."""
    for name, content in dpkg_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for name in ("updates", "triggers"):
        (folder / "var/lib/dpkg" / name / ".keep").unlink()
    return folder
