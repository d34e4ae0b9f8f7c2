"""A board: what its engine computes in, its parser, versions, cameras, power, heat, and how it is flashed.

A board is a file in `jetson/boards`, read and checked here; export, image, flash and the flight loop all ask it. What
is not known of a board is None, never a guess. Knows nothing of networks.
"""

import functools
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from deploy.errors import refuse
from deploy.manifest import PRECISIONS
from jetson.flash.steps import FlashSteps
from jetson.parser import Parser, parser_names, read_parser
from jetson.settings import read_yaml

__all__ = [
    "Arithmetic",
    "Board",
    "Download",
    "Downloads",
    "Memory",
    "Module",
    "Peak",
    "PowerMode",
    "Precision",
    "Runtime",
    "Thermal",
    "Zone",
    "arithmetic_of",
    "board_names",
    "read_board",
]

Precision = Literal["fp32", "fp16", "int8"]  # those of deploy.manifest.PRECISIONS, for a checker of types
Stage = Literal["read", "resize", "network", "decode", "track", "publish"]

_FOLDER = Path(__file__).parent / "boards"
_PLACEHOLDERS = ("sensor", "device", "url", "width", "height", "fps")
_Positive = Annotated[float, Field(gt=0)]
_Celsius = Annotated[float, Field(gt=0, lt=150)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Module(_Model):
    """A variant of the board, as it shows itself when it is flashed.

    Attributes:
        part: NVIDIA's number of the module: P, board id and, where known, SKU, as its EEPROM has them.
        recovery_usb: vendor and product, hexadecimal, that lsusb shows in recovery mode.
        flash_target: the first argument of flash.sh.
    """

    name: str
    part: str
    recovery_usb: Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")]
    flash_target: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    memory_gib: _Positive


class Memory(_Model):
    """gib: in all, None where it is the machine's own matter. shared: whether processor and GPU have it in common."""

    gib: _Positive | None
    shared: bool


class Peak(_Model):
    """Arithmetic and memory bandwidth at the highest clocks; a multiply-add is two operations.

    Attributes:
        tflops: 10^12 operations a second by precision.
        bandwidth: GB/s, 10^9 bytes a second.
    """

    tflops: dict[Precision, _Positive]
    bandwidth: _Positive


class Cluster(_Model):
    """Processor cores that run at one clock in a power mode."""

    cores: str
    count: Annotated[int, Field(ge=1)]
    mhz: _Positive


class PowerMode(_Model):
    """A mode of nvpmodel, by its number there. gpu_mhz, emc_mhz: highest clocks of GPU and memory, None if unknown."""

    id: Annotated[int, Field(ge=0)]
    name: str
    cpu: tuple[Cluster, ...]
    gpu_mhz: _Positive | None
    emc_mhz: _Positive | None
    is_default: bool = False


class Zone(_Model):
    """A thermal zone by its name in /sys/class/thermal: where clocks go down, where the kernel shuts down; °C."""

    name: str
    slowdown: _Celsius | None = None
    shutdown: _Celsius | None = None


class Thermal(_Model):
    """zones: those to watch. ignored: that say nothing. hardware_shutdown: where the chip switches itself off, °C."""

    zones: tuple[Zone, ...] = ()
    ignored: tuple[str, ...] = ()
    hardware_shutdown: _Celsius | None = None


class Runtime(_Model):
    """What the flight loop needs and where it comes from.

    Attributes:
        packages: of the board's system, with OpenCV, TensorRT and the like.
        wheels: name of the list in `jetson/package/wheels` that pins the rest.
    """

    packages: tuple[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]+$")], ...]
    wheels: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]


class Download(_Model):
    """An address, and the SHA-256 of what it must give; None where that is not known, and then it has to be given."""

    url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


class Downloads(_Model):
    """NVIDIA's addresses of the driver package and of the sample root file system."""

    l4t: Download
    rootfs: Download


class Arithmetic(_Model):
    """What a board computes in and how fast: as much of it as a bundle says of the board that it was made for.

    Attributes:
        precisions: that its engine computes in; missing_precisions: why it does not in the others.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]
    precisions: Annotated[tuple[Precision, ...], Field(min_length=1)]
    missing_precisions: dict[Precision, str]
    peak: Peak | None

    @property
    def fastest_precision(self) -> Precision:
        """That of FP16 and FP32 which needs no calibration and takes the least time."""
        return "fp16" if "fp16" in self.precisions else "fp32"

    def require_precision(self, precision: str) -> Precision:
        """Return `precision`, which the board must have.

        Raises:
            UserError: it has not; the message says why.
        """
        for name in self.precisions:
            if name == precision:
                return name
        allowed = f"allowed: {', '.join(self.precisions)}"
        for name, reason in self.missing_precisions.items():
            if name == precision:
                raise refuse(f"{self.name}: {precision}", reason, allowed)
        raise refuse(f"{self.name}: precision {precision}", "unknown", allowed)


class Board(Arithmetic):
    """What is known of a board.

    Attributes:
        versions: of what is installed on it, by name: l4t, tensorrt, python, ...
        parser_name: of the table in `jetson/parsers`.
        compute_capability: of its GPU, "6.2"; None without one.
        cameras: GStreamer pipelines for OpenCV by kind, with placeholders in braces.
        flash: how it is flashed; None where nothing is.
        runtime: what the flight loop needs; None where that is the machine's own matter.
        downloads: where NVIDIA's files are; None where nobody found out.
        latency_budget: milliseconds that each stage of the loop may take: a budget that we set, not a measurement.
    """

    title: str
    modules: tuple[Module, ...]
    versions: dict[str, str]
    parser_name: Annotated[str, Field(alias="parser")]
    compute_capability: Annotated[str, Field(pattern=r"^\d+\.\d$")] | None
    memory: Memory
    cameras: dict[str, str]
    power_modes: tuple[PowerMode, ...]
    thermal: Thermal
    runtime: Runtime | None = None
    downloads: Downloads | None = None
    latency_budget: Annotated[dict[Stage, _Positive], Field(alias="latency_budget_ms")]
    flash: FlashSteps | None = None

    @field_validator("parser_name")
    @classmethod
    def _is_known_parser(cls, name: str) -> str:
        if name not in parser_names():
            raise ValueError(f"{name} is unknown; allowed: {', '.join(parser_names())}")
        return name

    @field_validator("cameras")
    @classmethod
    def _have_known_placeholders(cls, cameras: dict[str, str]) -> dict[str, str]:
        for kind, pipeline in cameras.items():
            for name in _placeholders(pipeline):
                if name not in _PLACEHOLDERS:
                    raise ValueError(f"{kind}: {{{name}}} is unknown; allowed: {', '.join(_PLACEHOLDERS)}")
        return cameras

    @model_validator(mode="after")
    def _accounts_for_every_precision(self) -> "Board":
        for name in PRECISIONS:
            if (name in self.precisions) == (name in self.missing_precisions):
                raise ValueError(f"{name} belongs either to precisions or, with the reason, to missing_precisions")
        if self.power_modes and sum(mode.is_default for mode in self.power_modes) != 1:
            raise ValueError("power_modes: exactly one has is_default: true")
        return self

    @property
    def parser(self) -> Parser:
        """The table of its ONNX parser."""
        return read_parser(self.parser_name)

    @property
    def opset(self) -> tuple[int, int]:
        """Lowest and highest version of the default operator set that it reads."""
        return self.parser.opset

    def module(self, recovery_usb: str) -> Module:
        """The first variant that shows itself as `recovery_usb` in recovery mode.

        Raises:
            UserError: none does.
        """
        for module in self.modules:
            if module.recovery_usb == recovery_usb.lower():
                return module
        known = ", ".join(dict.fromkeys(module.recovery_usb for module in self.modules)) or "none"
        raise refuse(f"{self.name}: USB device {recovery_usb}", "is no module of this board", f"in recovery: {known}")

    def camera(self, kind: str, **values: str | int) -> str:
        """The GStreamer pipeline of a camera with its placeholders filled.

        Raises:
            UserError: no such kind, or a value is missing or would be read as more than a value.
        """
        if kind not in self.cameras:
            raise refuse(f"{self.name}: camera {kind}", "unknown", f"allowed: {', '.join(self.cameras) or 'none'}")
        needed = _placeholders(self.cameras[kind])
        for name in needed:
            if name not in values:
                raise refuse(f"{self.name}: camera {kind}", f"{name} is missing", f"give {', '.join(needed)}")
            if any(character in ' !"\n' for character in str(values[name])):
                raise refuse(f"{self.name}: camera {kind}", f"{name}={values[name]!r}", "no blank, quote or !")
        return self.cameras[kind].format(**values)

    def for_drone(self) -> dict[str, Any]:
        """What the flight loop needs, as plain values for JSON: it goes into the bundle, since a drone reads no YAML.

        Heights and widths in `cameras` stay placeholders, for `str.format`.
        """
        return {
            "name": self.name,
            "versions": dict(self.versions),
            "compute_capability": self.compute_capability,
            "precisions": list(self.precisions),
            "missing_precisions": dict(self.missing_precisions),
            "memory": self.memory.model_dump(mode="json"),
            "peak": None if self.peak is None else self.peak.model_dump(mode="json"),
            "cameras": dict(self.cameras),
            "power_modes": [mode.model_dump(mode="json") for mode in self.power_modes],
            "thermal": self.thermal.model_dump(mode="json"),
            "latency_budget_ms": dict(self.latency_budget),
        }


def arithmetic_of(board: Mapping[str, Any]) -> Arithmetic:
    """What a bundle says, in `Bundle.board`, of the arithmetic of its board; its own file may be elsewhere.

    Raises:
        UserError: it does not say enough.
    """
    try:
        return Arithmetic.model_validate({"peak": None, **{key: board[key] for key in _ARITHMETIC if key in board}})
    except ValidationError:
        allowed = "give --board, or export the bundle again"
        raise refuse(f"board {board.get('name')} of the bundle", "does not say what it computes in", allowed) from None


_ARITHMETIC = tuple(Arithmetic.model_fields)


def board_names() -> tuple[str, ...]:
    """Names of the boards that are shipped."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def read_board(name_or_path: str | Path) -> Board:
    """Read a shipped board by its name, or any by the path of its YAML file.

    Raises:
        UserError: no such board, or what is wrong with its file: file, key, value and the values allowed.
    """
    name = str(name_or_path)
    if name in board_names():
        return _shipped(name)
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        allowed = f"allowed: {', '.join(board_names())}, or the path of a board's .yaml file"
        raise refuse(f"board {name}", "unknown", allowed)
    return read_yaml(path, Board)


@functools.cache
def _shipped(name: str) -> Board:
    return read_yaml(_FOLDER / f"{name}.yaml", Board)


def _placeholders(pipeline: str) -> list[str]:
    """Names in braces, each once."""
    return list(dict.fromkeys(name for _, name, _, _ in string.Formatter().parse(pipeline) if name is not None))
