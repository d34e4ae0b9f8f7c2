"""What the kernel says of heat, clocks, power and memory, below a root that tests choose. Judges nothing.

/sys/class/thermal/thermal_zone*/{type,temp,trip_point_*_{type,temp}}   thousandths of a degree Celsius
/sys/class/thermal/cooling_device*/{type,cur_state}         above 0: that device is held back
    (both: Linux, Documentation/driver-api/thermal/sysfs-api.rst)
/sys/devices/system/cpu/cpu*/cpufreq/scaling_{cur,max}_freq kHz (Linux, admin-guide/pm/cpufreq.rst)
/sys/class/devfreq/17000000.gp10b/{cur,max}_freq            Hz; 57000000.gpu, 17000000.gv11b, 17000000.ga10b
/sys/bus/i2c/devices/*/hwmon/hwmon*/in1_{label,input}, curr1_input      mV, mA: INA3221 from L4T 35 on (Linux,
                                                            Documentation/hwmon/ina3221.rst)
/sys/bus/i2c/devices/*/iio:device*/rail_name_0, in_power0_input         mW: INA3221 up to L4T 32
                                                            (rbonghi/jetson_stats, jtop/core/power.py)
/sys/class/hwmon/hwmon*/oc1_event_cnt                       over-current events of Orin (NVIDIA, "Jetson Orin Nano
                                                            Series ...", R36.4)
/var/lib/nvpmodel/status                                    pmode:0003
/proc/meminfo                                               MemAvailable, kB
"""

import re
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from deploy.health.reader import Answer, PatientReader

_GPU = re.compile(r"(^|\.)(gp10b|gv11b|ga10b|gpu)$")
# Fans are no throttling, and an idle injector says nothing of heat.
_NO_THROTTLE = re.compile(r"fan|powerclamp", re.IGNORECASE)
# Beyond these a sensor that answers is broken, or off: -256 is what a sleeping part of an Orin says.
_LEAST, _MOST = -60.0, 200.0
_TRIPS = (60.0, 130.0)  # °C between which a trip point is meant for a chip, and is not a switched-off one


class Trips(NamedTuple):
    """Where the kernel acts in a zone, °C: it slows clocks, it shuts down; None where it does not say."""

    slowdown: Optional[float]
    shutdown: Optional[float]


class Readings(NamedTuple):
    """One look.

    temperatures: °C by zone. trips: by zone. throttled: names of the cooling devices that hold something back.
    cpu_mhz: (now, allowed) by core. gpu_mhz: the same, None without. rails: milliwatts by rail. overcurrent: events
    since the start of the board. power_mode: number in nvpmodel, None where it is not said. memory: MiB available.
    problems: why there is no value, by the name of the zone or file.
    """

    temperatures: Dict[str, float]
    trips: Dict[str, Trips]
    throttled: Tuple[str, ...]
    cpu_mhz: Dict[str, Tuple[float, float]]
    gpu_mhz: Optional[Tuple[float, float]]
    rails: Dict[str, float]
    overcurrent: Dict[str, int]
    power_mode: Optional[int]
    memory: Optional[float]
    problems: Dict[str, str]


class Sensors:
    """root: the folder that holds sys, proc and var. ignored: zones that are not asked."""

    def __init__(self, root: Path = Path("/"), patience: float = 0.5, ignored: Tuple[str, ...] = ()) -> None:
        self._root, self._ignored = root, ignored
        self._reader = PatientReader(patience)
        self._trips: Dict[str, Trips] = {}
        self._asked_trips: Set[str] = set()  # zones of which every trip point has answered
        self._names: Dict[Path, str] = {}  # of zones that have been seen, by folder
        self._answers: Dict[Path, Answer] = {}
        self._problems: Dict[str, str] = {}

    def read(self) -> Readings:
        """Look at everything. What cannot be read is among the problems, and never raises."""
        self._problems = {}
        folders = self._folders()
        self._answers = self._reader.read([path for paths in folders.values() for path in paths])
        self._new_trips(folders["zones"])
        return Readings(
            self._temperatures(folders["zones"]),
            dict(self._trips),
            self._throttled(folders["cooling"]),
            self._clocks(folders["cpu"], 1000.0),
            next(iter(self._clocks(folders["gpu"], 1e6).values()), None),
            self._rails(folders["rails"]),
            {_event_name(path): int(value) for path, value in self._numbers(folders["overcurrent"])},
            self._power_mode(),
            self._memory(),
            self._problems,
        )

    def _folders(self) -> Dict[str, List[Path]]:
        """The files to read, by what they are."""
        thermal, i2c = self._root / "sys/class/thermal", self._root / "sys/bus/i2c/devices"
        cpus = self._root / "sys/devices/system/cpu"
        gpus = [path for path in _listed(self._root / "sys/class/devfreq", "*") if _GPU.search(path.name)]
        hwmon = [path for chip in _listed(i2c, "*/hwmon") for path in _listed(chip, "hwmon*")]
        rails = [path for chip in hwmon for path in _listed(chip, "in[1-3]_*") + _listed(chip, "curr[1-3]_input")]
        old = [path for chip in _listed(i2c, "*/iio:device*") for path in _listed(chip, "*")]
        rails += [path for path in old if path.name.startswith("rail_name_") or path.name.startswith("in_power")]
        frequencies = ("scaling_cur_freq", "scaling_max_freq")
        return {
            "zones": _inside(_listed(thermal, "thermal_zone*"), ("type", "temp")),
            "cooling": _inside(_listed(thermal, "cooling_device*"), ("type", "cur_state")),
            "cpu": _inside(_listed(cpus, "cpu[0-9]*/cpufreq"), frequencies),
            "gpu": _inside(gpus, ("cur_freq", "max_freq")),
            "rails": rails,
            "overcurrent": _listed(self._root / "sys/class/hwmon", "hwmon*/oc*_event_cnt"),
            "mode": [path for path in (self._mode_file,) if path.exists()],
            "memory": [path for path in (self._memory_file,) if path.exists()],
        }

    @property
    def _mode_file(self) -> Path:
        return self._root / "var/lib/nvpmodel/status"

    @property
    def _memory_file(self) -> Path:
        return self._root / "proc/meminfo"

    def _text(self, path: Path) -> str:
        return self._answers.get(path, Answer("", "is not there")).text

    def _number(self, path: Path, name: str) -> Optional[float]:
        """The number in a file; where there is none the problem is noted under `name`."""
        answer = self._answers.get(path, Answer("", "is not there"))
        if answer.problem:
            self._problems[name] = answer.problem
            return None
        try:
            return float(int(answer.text))
        except (ValueError, OverflowError):  # more digits than a float holds
            self._problems[name] = "says {}".format(ascii(answer.text[:40]))
            return None

    def _numbers(self, paths: List[Path]) -> List[Tuple[Path, float]]:
        found = [(path, self._number(path, _event_name(path))) for path in paths]
        return [(path, value) for path, value in found if value is not None]

    def _temperatures(self, paths: List[Path]) -> Dict[str, float]:
        found: Dict[str, float] = {}
        for folder in [path.parent for path in paths if path.name == "type"]:
            name = self._text(folder / "type") or self._names.get(folder) or folder.name
            self._names[folder] = name
            if name in self._ignored:
                continue
            value = self._number(folder / "temp", name)
            if value is None:
                continue
            if not is_plausible(value / 1000):
                self._problems[name] = "says {:g} C".format(value / 1000)
                continue
            found[name] = max(value / 1000, found.get(name, _LEAST))  # two of one name: the hotter
        return found

    def _new_trips(self, paths: List[Path]) -> None:
        """Read the trip points of zones until all have answered once; they do not change."""
        for folder in [path.parent for path in paths if path.name == "type"]:
            name = self._text(folder / "type")
            if not name or name in self._asked_trips:
                continue
            points = _listed(folder, "trip_point_*_type") + _listed(folder, "trip_point_*_temp")
            said = self._reader.read(points)
            if not any(answer.problem for answer in said.values()):
                self._asked_trips.add(name)
            by_kind: Dict[str, List[float]] = {}
            for path in points:
                if path.name.endswith("_type"):
                    value = said.get(path.with_name(path.name.replace("_type", "_temp")))
                    degrees = _degrees(value.text if value else "")
                    if degrees is not None and _TRIPS[0] <= degrees <= _TRIPS[1]:
                        by_kind.setdefault(said[path].text, []).append(degrees)
            passive, critical = by_kind.get("passive"), by_kind.get("critical")
            before = self._trips.get(name, Trips(None, None))
            slowdown = min(passive) if passive else before.slowdown
            self._trips[name] = Trips(slowdown, min(critical) if critical else before.shutdown)

    def _throttled(self, paths: List[Path]) -> Tuple[str, ...]:
        found = set()
        for folder in [path.parent for path in paths if path.name == "type"]:
            name = self._text(folder / "type") or folder.name
            if not _NO_THROTTLE.search(name):
                state = _degrees(self._text(folder / "cur_state"))
                if state is not None and state > 0:
                    found.add(name)
        return tuple(sorted(found))

    def _clocks(self, paths: List[Path], scale: float) -> Dict[str, Tuple[float, float]]:
        """(now, allowed) MHz by the folder above; a core that is off has none, and that is no fault."""
        found = {}
        for now, allowed in zip(paths[::2], paths[1::2]):
            values = [_degrees(self._text(path)) for path in (now, allowed)]
            if values[0] is not None and values[1] is not None:
                name = now.parent.parent.name if now.parent.name == "cpufreq" else now.parent.name
                found[name] = (values[0] * 1000 / scale, values[1] * 1000 / scale)
        return found

    def _rails(self, paths: List[Path]) -> Dict[str, float]:
        found = {}
        for path in paths:
            name, place = self._text(path) or path.name, path.name
            if place.startswith("rail_name_"):
                power = self._number(path.with_name("in_power{}_input".format(place[len("rail_name_") :])), name)
            elif place.endswith("_label") and name != "NC":  # a channel that is not connected
                volts = self._number(path.with_name(place.replace("_label", "_input")), name)
                amperes = self._number(path.with_name("curr{}_input".format(place[2])), name)
                power = volts * amperes / 1000 if volts is not None and amperes is not None else None
            else:
                continue
            if power is not None:
                found[name] = round(power, 1)
        return found

    def _power_mode(self) -> Optional[int]:
        found = re.search(r"pmode:(\d{1,4})", self._text(self._mode_file))
        return int(found.group(1)) if found else None

    def _memory(self) -> Optional[float]:
        found = re.search(r"^MemAvailable:\s+(\d{1,15}) kB", self._text(self._memory_file), re.MULTILINE)
        return int(found.group(1)) / 1024.0 if found else None


def is_plausible(degrees: float) -> bool:
    """Whether that is the temperature of a board, °C, and not what a sensor says that is broken or off."""
    return _LEAST <= degrees <= _MOST


def _degrees(text: str) -> Optional[float]:
    """Thousandths as a number of whole ones, or None."""
    try:
        return int(text) / 1000.0
    except (ValueError, OverflowError):
        return None


def _event_name(path: Path) -> str:
    """`oc1` of oc1_event_cnt."""
    return path.name.split("_")[0]


def _listed(folder: Path, pattern: str) -> List[Path]:
    """What is in a folder that may not be there, or may vanish meanwhile."""
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def _inside(folders: List[Path], names: Tuple[str, ...]) -> List[Path]:
    return [folder / name for folder in folders for name in names]
