"""Writes what a drone's system is into a root file system: names, network, time, power, disks, the service.

By files alone: nothing of the image runs. Knows nothing of how the tree came to be.
"""

import ipaddress
import re
import uuid
from pathlib import Path

from deploy.errors import refuse
from jetson.board import PowerMode
from jetson.image.accounts import join_groups
from jetson.image.system import System, secret
from jetson.image.tree import link, write

__all__ = ["STORE", "configure", "store_folder"]

STORE = "var/lib/skylight"
_FACTORY = "usr/lib/skylight/factory"  # where the first bundle lies until the data partition is there
_CONNECTIONS = "etc/NetworkManager/system-connections"
_UNITS = "etc/systemd/system"
_HERE = Path(__file__).parent


def store_folder(system: System) -> str:
    """Where the bundle is installed in the image: in its place, or where the first boot takes it from."""
    return STORE if system.data is None else _FACTORY


def configure(root: Path, system: System, hostname: str, mode: PowerMode | None) -> None:
    """Write everything of `system`; may be called again over what it wrote.

    Raises:
        UserError: the root file system cannot do what is asked.
    """
    write(root / "etc/hostname", hostname + "\n")
    hosts = [line for line in _text(root / "etc/hosts").splitlines() if not line.startswith("127.0.1.1")]
    write(root / "etc/hosts", "\n".join([*hosts, f"127.0.1.1 {hostname}"]) + "\n")
    if (root / "etc/machine-id").exists():
        write(root / "etc/machine-id", "")  # each drone makes its own
    # `skylight push`, and the last lines of the journal that it shows.
    join_groups(root, system.user.name, ("skylight-push", "systemd-journal"))
    _network(root, system)
    _time(root, system)
    if mode is not None:
        # What nvpmodel writes itself when a mode is set, and reads at the next boot.
        write(root / "var/lib/nvpmodel/status", f"pmode:{mode.id:04d}\n")
    _disks(root, system)
    link(root / _UNITS / "multi-user.target.wants/skylight-detect.service", _unit("skylight-detect.service"))


def _network(root: Path, system: System) -> None:
    """Connections of NetworkManager, which L4T has; nm-settings-keyfile(5).

    Without interface-name the wired one goes to any Ethernet port, and to one only at a time (multi-connect), as
    nm-settings(5) says: the boards have one, whose name differs, and two with one address would be wrong. Newer ones
    leave a port of the board's own USB network alone (85-nm-unmanaged.rules).
    """
    wired = _connection("skylight-wired", "ethernet", system.network.interface) + _addresses(system)
    write(root / _CONNECTIONS / "skylight-wired.nmconnection", wired, 0o600)
    if system.wifi is None:
        return
    password = secret(system.wifi.password, "wifi")
    radio = (
        f"[wifi]\nssid={_value(system.wifi.ssid)}\nmode=infrastructure\n\n"
        f"[wifi-security]\nkey-mgmt=wpa-psk\npsk={_value(password or '')}\n"
    )
    text = _connection("skylight-wifi", "wifi") + radio + "\n[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n"
    write(root / _CONNECTIONS / "skylight-wifi.nmconnection", text, 0o600)


def _connection(name: str, kind: str, interface: str | None = None) -> str:
    """Its head; the number follows from the name, so that it is the same each time."""
    number = uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.skylight")
    bound = f"interface-name={interface}\n" if interface else ""
    return f"[connection]\nid={name}\nuuid={number}\ntype={kind}\n{bound}autoconnect=true\n\n"


def _addresses(system: System) -> str:
    network = system.network
    methods = {4: "method=auto\n", 6: "method=auto\n"}
    if network.address != "dhcp":
        address = f"{network.address},{network.gateway}" if network.gateway else network.address
        version = ipaddress.ip_interface(network.address).version
        methods = {4: "method=disabled\n", 6: "method=link-local\n", version: f"method=manual\naddress1={address}\n"}
    for server in network.dns:
        version = ipaddress.ip_address(server).version
        methods[version] += f"{server};" if "dns=" in methods[version] else f"dns={server};"
    return "\n".join(f"[ipv{version}]\n{lines.rstrip()}\n" for version, lines in sorted(methods.items()))


def _value(text: str) -> str:
    """A value as GLib's key files take it: a backslash begins an escape, and blanks before it are passed over."""
    text = text.replace("\\", "\\\\")
    return "\\s" + text[1:] if text.startswith(" ") else text


def _time(root: Path, system: System) -> None:
    """systemd-timesyncd, where the root file system has it."""
    name = "systemd-timesyncd.service"
    if not (root / "lib/systemd/system" / name).exists():
        if system.ntp:
            raise refuse("ntp", f"the root file system has no {name}", "leave ntp out, or take another root")
        return
    if system.ntp:
        servers = f"[Time]\nNTP={' '.join(system.ntp)}\n"
        write(root / "etc/systemd/timesyncd.conf.d/skylight.conf", servers)
    link(root / _UNITS / "sysinit.target.wants" / name, f"/lib/systemd/system/{name}")


def _disks(root: Path, system: System) -> None:
    """The data partition; and a root that is not written to.

    Without the partition the system comes up (nofail), but not the detector: its StateDirectory= requires the mount
    (systemd.exec(5), implicit dependencies). It would fly what the image came with, not what was pushed since.
    """
    path = root / "etc/fstab"
    lines = [line for line in _text(path).splitlines() if "# skylight" not in line]
    if system.data is not None:
        options = "defaults,noatime,nofail,x-systemd.makefs,x-systemd.device-timeout=30s"
        lines.append(f"{system.data} /{STORE} ext4 {options} 0 2 # skylight")
        _own_unit(root, "skylight-data.service", "multi-user.target")
        _own_program(root, "data")
    if system.read_only:
        lines = [_read_only(line) for line in lines]
        if not any(re.match(r"^\S+\s+/\s", line) for line in lines):
            lines.append("/dev/root / ext4 ro 0 1 # skylight")
        if not any(re.match(r"^\S+\s+/tmp\s", line) for line in lines):  # the camera daemon's socket lies there
            lines.append("tmpfs /tmp tmpfs mode=1777,nosuid,nodev 0 0 # skylight")
        _own_unit(root, "skylight-overlay.service", "local-fs.target")
        _own_program(root, "overlay")
        _own_unit(root, "skylight-host-keys.service", "multi-user.target")
        _own_program(root, "host-keys")
    if lines or path.exists():
        write(path, "\n".join(lines) + "\n")


def _read_only(line: str) -> str:
    """A line of fstab; that of the root with ro among its options."""
    found = re.match(r"^(\S+\s+/\s+\S+\s+)(\S+)(.*)$", line)
    if found is None:
        return line
    options = [one for one in found[2].split(",") if one not in ("rw", "ro", "defaults")]
    return f"{found[1]}{','.join(['ro', *options])}{found[3]}"


def _own_unit(root: Path, name: str, target: str) -> None:
    write(root / "lib/systemd/system" / name, (_HERE / "files" / name).read_bytes())
    link(root / _UNITS / f"{target}.wants" / name, _unit(name))


def _own_program(root: Path, name: str) -> None:
    write(root / "usr/lib/skylight" / name, (_HERE / "files" / name).read_bytes(), 0o755)


def _unit(name: str) -> str:
    return f"/lib/systemd/system/{name}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
