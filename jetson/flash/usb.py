"""Modules in recovery mode, as the kernel shows them in /sys/bus/usb/devices, and which of them is meant.

Nothing is asked of a module: its bootROM answers once in a recovery mode, and that answer belongs to NVIDIA's scripts.
Two variants can show the same USB id; the one that is meant then has to be named, and `eeprom_refusal` says of what
NVIDIA's scripts read whether it was.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import UserError, refuse
from jetson.board import Board, Module, board_names, read_board

__all__ = [
    "USB",
    "AbsentError",
    "Found",
    "UsbDevice",
    "cable_warnings",
    "find_module",
    "module_named",
    "only_target",
    "require_still_there",
]

USB = Path("/sys/bus/usb/devices")
_NVIDIA = "0955"
_BOOTED = "0955:7020"  # "L4T running on Tegra": a Jetson that has booted, in device mode
_HIGH_SPEED = 480.0  # Mbit/s
_RECOVERY = "hold its recovery button while you press reset (boards' manuals), with the flashing port on a USB cable"
_EEPROM = re.compile(r"Board ID\((\w+)\) version\(\w*\) sku\((\w*)\)")


class AbsentError(UserError):
    """No module is there: all that a dry run may lack."""


@dataclass(frozen=True)
class UsbDevice:
    """An NVIDIA device on USB.

    Attributes:
        instance: bus and port, "1-2" or behind a hub "1-2.3": what NVIDIA's scripts call the USB instance.
        usb_id: vendor and product, hexadecimal.
        number: of the device on its bus; another one after it was plugged in again.
        serial: iSerial; None where it has none.
        speed: Mbit/s; None if unknown.
    """

    instance: str
    usb_id: str
    number: str | None
    serial: str | None
    speed: float | None


@dataclass(frozen=True)
class Found:
    """A module that was identified. variants: all that share USB id and flash target, the first of them `module`."""

    device: UsbDevice
    module: Module
    variants: tuple[Module, ...]

    def eeprom_refusal(self, line: str) -> str | None:
        """Why to stop, if `line` of NVIDIA's script says that the module's EEPROM is of another module; else None."""
        said = _EEPROM.search(line)
        if said is None or any(_is_part(module.part, said[1], said[2]) for module in self.variants):
            return None
        known = " or ".join(module.part for module in self.variants)
        where = f"USB {self.device.instance}"
        return (
            f"{where}: its EEPROM says P{said[1]}-{said[2]}, not {known}; stopped before it was written, see --module"
        )


def module_named(board: Board, name: str) -> Module:
    """The one variant of a board that `name` means: its name, its part, or a piece of either that only it has.

    Raises:
        UserError: none, or several.
    """
    wanted = name.casefold()
    exact = [module for module in board.modules if wanted in (module.name.casefold(), module.part.casefold())]
    pieces = [module for module in board.modules if wanted in f"{module.name} {module.part}".casefold()]
    fitting = exact or pieces
    if len(fitting) != 1:
        raise refuse(f"--module {name}", "means several" if fitting else "unknown", f"one of: {_listed(board.modules)}")
    return fitting[0]


def find_module(board: Board, named: Module | None, instance: str | None, usb: Path = USB) -> Found:
    """The module in recovery mode that is meant.

    Args:
        named: the variant that it must be; needed where several share a USB id and are flashed differently.
        instance: the USB instance that it must be at; needed where there are several.

    Raises:
        AbsentError: there is none.
        UserError: there are several, or one of another board, or nobody knows which variant it is.
    """
    recovering = [device for device in _nvidia_devices(usb) if device.usb_id in _known_ids(board)]
    device = _meant(board, recovering, instance, usb)
    candidates = [module for module in board.modules if module.recovery_usb == device.usb_id]
    where = f"USB {device.instance}: {device.usb_id}"
    if not candidates:
        others = [name for name in board_names() if device.usb_id in {m.recovery_usb for m in read_board(name).modules}]
        remedy = f"connect another, or give BOARD={' or '.join(others)}" if others else "connect another"
        raise refuse(where, f"is no module of {board.name} ({_whose(device.usb_id)})", remedy)
    if named is not None and named not in candidates:
        raise refuse(where, f"is no {named.name}, but {_names(candidates)}", "connect that, or correct --module")
    module = named or only_target(board, candidates)
    same = [each for each in candidates if each.flash_target == module.flash_target]
    return Found(device, module, (module,) if named else tuple(same))


def only_target(board: Board, candidates: Iterable[Module]) -> Module:
    """The first of variants that are all flashed in the same way.

    Raises:
        UserError: they are not, so that one has to be named.
    """
    modules = list(candidates)
    if len({module.flash_target for module in modules}) > 1:
        shared = "shows the same USB id" if len({m.recovery_usb for m in modules}) == 1 else "is possible"
        raise refuse(f"{board.name}: module", f"more than one {shared}", f"name it with --module: {_listed(modules)}")
    return modules[0]


def require_still_there(found: Found, usb: Path = USB) -> None:
    """Check that the very device is still there, right before it is written.

    Raises:
        UserError: it left recovery mode, or another was plugged in.
    """
    now = [device for device in _nvidia_devices(usb) if device.instance == found.device.instance]
    where = f"USB {found.device.instance}"
    if not now or now[0].usb_id != found.device.usb_id:
        raise refuse(where, "the module has left recovery mode", f"{_RECOVERY}, and run it again")
    if now[0] != found.device:
        raise refuse(where, "the module was plugged in anew since it was checked", "run it again")


def cable_warnings(device: UsbDevice) -> list[str]:
    """What speaks against cable and port, in a line each."""
    warnings = []
    if device.speed is not None and device.speed < _HIGH_SPEED:
        warnings.append(f"USB {device.instance}: {device.speed:g} Mbit/s; try another cable and port, 480 is usual")
    if "." in device.instance:
        warnings.append(f"USB {device.instance}: behind a hub; connect it to the computer itself")
    return warnings


def _meant(board: Board, recovering: list[UsbDevice], instance: str | None, usb: Path) -> UsbDevice:
    """The device at `instance`, else the only one of the board; of other boards' modules only if there is no other."""
    if instance is not None:
        for device in recovering:
            if device.instance == instance:
                return device
        there = ", ".join(f"{device.instance} ({device.usb_id})" for device in recovering) or "none"
        raise AbsentError(f"USB {instance}: no module in recovery mode there; in recovery mode: {there}")
    ids = {module.recovery_usb for module in board.modules}
    own = [device for device in recovering if device.usb_id in ids]
    meant = own or recovering
    if not meant:
        booted = [device.instance for device in _nvidia_devices(usb) if device.usb_id == _BOOTED]
        found = f"the one at USB {booted[0]} has booted" if booted else "none is connected"
        raise AbsentError(f"{board.name}: module in recovery mode: {found}; {_RECOVERY}")
    if len(meant) > 1:
        there = ", ".join(f"{device.instance} ({device.usb_id})" for device in meant)
        raise refuse(f"{board.name}: {len(meant)} modules in recovery mode", there, "name one with --usb-instance")
    return meant[0]


def _nvidia_devices(usb: Path) -> list[UsbDevice]:
    """NVIDIA's devices that are there now; one that goes while it is read is not there."""
    devices = []
    for folder in sorted(usb.glob("*")):
        vendor, product, bus, port = (_text(folder / name) for name in ("idVendor", "idProduct", "busnum", "devpath"))
        if vendor == _NVIDIA and product and bus and port:
            speed = _text(folder / "speed")
            devices.append(
                UsbDevice(
                    instance=f"{bus}-{port}",
                    usb_id=f"{vendor}:{product}",
                    number=_text(folder / "devnum"),
                    serial=_text(folder / "serial"),
                    speed=float(speed) if speed and re.fullmatch(r"\d+(\.\d+)?", speed) else None,
                )
            )
    return devices


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _known_ids(board: Board) -> set[str]:
    """USB ids in recovery mode of all boards that are shipped, and of this one."""
    boards = [board, *(read_board(name) for name in board_names())]
    return {module.recovery_usb for each in boards for module in each.modules}


def _is_part(part: str, board_id: str, sku: str) -> bool:
    """Whether "P3310-1000", or "P3636" of any SKU, is the module with that board id and SKU in its EEPROM."""
    return part in (f"P{board_id}", f"P{board_id}-{sku}")


def _whose(usb_id: str) -> str:
    modules = [module for name in board_names() for module in read_board(name).modules]
    return _names(module for module in modules if module.recovery_usb == usb_id)


def _names(modules: Iterable[Module]) -> str:
    return " or ".join(module.name for module in modules) or "of an unknown board"


def _listed(modules: Iterable[Module]) -> str:
    return ", ".join(f"{module.part} ({module.name})" for module in modules) or "none"
