"""What the person decides of a drone's system: a YAML file, checked. Knows nothing of how it gets into the image."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from deploy.errors import refuse
from jetson.board import Board, PowerMode
from jetson.settings import read_yaml

__all__ = ["Network", "System", "User", "Wifi", "power_mode", "read_system", "secret"]

# crypt(3) of glibc: SHA-256 and SHA-512, which Ubuntu 18.04 and all newer ones read; openssl passwd makes them.
_HASH = re.compile(r"^\$[56]\$(rounds=\d+\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{43,86}$")
_KEY = re.compile(r"^(ssh-(rsa|ed25519)|ecdsa-sha2-nistp\d+|sk-[a-z0-9-]+@openssh\.com) [A-Za-z0-9+/=]+( .*)?$")
_HOST = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class User(_Model):
    """Who may log in. There is no default password: a key, a hash, or both have to be given.

    Attributes:
        ssh_key: file with public keys, one a line.
        password_hash: file with a hash as `openssl passwd -6` makes it.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")] = "pilot"
    ssh_key: Path | None = None
    password_hash: Path | None = None

    @field_validator("name")
    @classmethod
    def _is_a_person(cls, name: str) -> str:
        if name in ("root", "skylight", "nobody", "daemon"):
            raise ValueError(f"name {name} is taken by the system; give another")
        return name


class Network(_Model):
    """The wired network.

    Attributes:
        address: dhcp, or an address with its prefix, 192.168.1.20/24.
        interface: name of the port, as `ip link` shows it; the first port with a cable where none is named.
    """

    address: str = "dhcp"
    interface: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,15}$")] | None = None
    gateway: str | None = None
    dns: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _are_addresses(self) -> "Network":
        for server in self.dns:
            ipaddress.ip_address(server)
        if self.address == "dhcp":
            if self.gateway:
                raise ValueError("gateway: dhcp gives it; leave it out")
            return self
        if "/" not in self.address:
            raise ValueError(f"address {self.address} has no prefix; write for example {self.address}/24")
        version = ipaddress.ip_interface(self.address).version
        if self.gateway and ipaddress.ip_address(self.gateway).version != version:
            raise ValueError(f"gateway {self.gateway} is no IPv{version} address, as {self.address} is")
        return self


class Wifi(_Model):
    """A wireless network. password: file that holds it, 8 to 63 characters, so that it is in no command line."""

    ssid: Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[^\n;]+$")]
    password: Path


class System(_Model):
    """A drone's system.

    Attributes:
        ntp: servers of the time; the distribution's own where none is named.
        power_mode: name or number of the board's file; its default where none is named.
        read_only: the root file system is not written to; what is written to /etc and /var is gone after a restart.
        data: device or LABEL= of a partition for bundles, engines and flights; formatted at the first boot if empty.
    """

    hostname: Annotated[str, Field(pattern=_HOST)] | None = None
    user: User = User()
    network: Network = Network()
    wifi: Wifi | None = None
    ntp: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9.:-]+$")], ...] = ()
    power_mode: str | int | None = None
    read_only: bool = False
    data: Annotated[str, Field(pattern=r"^(/dev/[A-Za-z0-9/_-]+|LABEL=[A-Za-z0-9_-]+)$")] | None = None

    @model_validator(mode="after")
    def _keeps_what_is_written(self) -> "System":
        if self.read_only and self.data is None:
            raise ValueError("read_only: needs data, a partition for bundles, engines and flights: data: /dev/...")
        return self


def read_system(path: Path | None) -> System:
    """Read the file of a drone's system; all defaults without one. Paths in it are beside it.

    Raises:
        UserError: what is wrong with it.
    """
    if path is None:
        return System()
    system = read_yaml(path, System)
    user = system.user.model_copy(
        update={key: _beside(path, getattr(system.user, key)) for key in ("ssh_key", "password_hash")}
    )
    changes: dict[str, object] = {"user": user}
    if system.wifi is not None:
        changes["wifi"] = system.wifi.model_copy(update={"password": _beside(path, system.wifi.password)})
    return system.model_copy(update=changes)


def power_mode(system: System, board: Board) -> PowerMode | None:
    """The power mode that is wanted, or the board's default; None for a board without any.

    Raises:
        UserError: the board has no such mode.
    """
    if system.power_mode is None:
        return next((mode for mode in board.power_modes if mode.is_default), None)
    for mode in board.power_modes:
        if system.power_mode in (mode.name, mode.id, str(mode.id)):
            return mode
    allowed = ", ".join(f"{mode.id} {mode.name}" for mode in board.power_modes) or "none"
    raise refuse(f"power_mode {system.power_mode}", f"{board.name} has no such mode", f"allowed: {allowed}")


def secret(path: Path | None, kind: Literal["ssh_key", "password_hash", "wifi"]) -> str | None:
    """The text of a file that a system names, checked; None where none is named.

    Raises:
        UserError: it cannot be read, or is not what it should be. What it holds is not shown.
    """
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise refuse(path, getattr(error, "strerror", None) or "is no text", f"give the file of {kind}") from None
    if kind == "password_hash" and not _HASH.match(text):
        raise refuse(path, "holds no SHA-256 or SHA-512 password hash", "openssl passwd -6 makes one")
    if kind == "wifi" and not re.fullmatch("[ -~]{8,63}", text):  # IEEE 802.11, and one line of a file of keys
        raise refuse(path, f"holds {len(text)} characters", "a wireless password has 8 to 63, all of ASCII")
    if kind == "ssh_key":
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        if not lines or not all(_KEY.match(line) for line in lines):
            raise refuse(path, "holds no public SSH key", "give the file that ends in .pub")
        return "\n".join(lines)
    return text


def _beside(file: Path, path: Path | None) -> Path | None:
    return None if path is None else file.parent / path.expanduser()
