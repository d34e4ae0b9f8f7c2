"""The doctor's look at the machine: cameras, serial ports, power, clocks, memory, disk, and the time."""

import re
import shutil
import time
from pathlib import Path
from typing import List, Optional

from deploy.life.checks import OK, PROBLEM, WARNING, Check, Machine, group_of, may_open, run_tool

# MiB. Building an engine refuses below the first (deploy/engine.py); a bundle and a day's log need the second.
_LEAST_MEMORY = 512
_GOOD_MEMORY = 1024
_LEAST_DISK = 200
_GOOD_DISK = 2048

_SERIAL = ("/dev/ttyTHS*", "/dev/ttyACM*", "/dev/ttyUSB*", "/dev/ttyAMA*")
_ARGUS = "/tmp/argus_socket"  # where nvargus-daemon listens
_SANE_YEARS = (2025, 2100)


def check_cameras(machine: Machine) -> List[Check]:
    """A camera is there, its daemon runs, and the user may open it."""
    devices = machine.glob("/dev/video*")
    checks = []
    if not devices:
        remedy = "check cable and connector; CSI: the device tree must name the sensor (dmesg | grep -i imx)"
        level = OK if "://" in _settings_text(machine) else PROBLEM
        value = "no /dev/video*" + ("; the settings name a stream" if level == OK else "")
        checks.append(Check("cameras", level, value, "" if level == OK else remedy))
    for device in devices:
        checks.append(_check_device(machine, "camera", device))
    if machine.is_jetson:
        if machine.path(_ARGUS).exists():
            checks.append(Check("camera daemon", OK, _ARGUS))
        else:
            remedy = "sudo systemctl restart nvargus-daemon (USB cameras and streams work without)"
            checks.append(Check("camera daemon", WARNING, "no " + _ARGUS, remedy))
    return checks


def check_serial(machine: Machine) -> List[Check]:
    """The ports that the settings name exist and may be opened; without settings, any that is there."""
    named = _named_ports(machine)
    if named:
        return [_check_named(machine, port) for port in named]
    found = [path for pattern in _SERIAL for path in machine.glob(pattern)]
    if not found:
        remedy = "connect the autopilot, or use UDP"
        return [Check("serial port", WARNING, "none of " + ", ".join(_SERIAL), remedy)]
    return [_check_device(machine, "serial port", port) for port in found]


def check_power(machine: Machine) -> List[Check]:
    """Power mode and clocks of a Jetson; other machines have none of ours."""
    if not machine.is_jetson:
        return [Check("power mode", OK, "no Jetson")]
    return [_check_mode(machine), _check_clocks(machine)]


def check_memory(machine: Machine) -> List[Check]:
    """What is free now."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", machine.read("/proc/meminfo") or "", re.MULTILINE)
    if found is None:
        return [Check("free memory", WARNING, "unknown: no MemAvailable in /proc/meminfo", "look with free -m")]
    return [_check_amount("free memory", int(found.group(1)) // 1024, _LEAST_MEMORY, _GOOD_MEMORY, "stop the desktop")]


def check_disk(machine: Machine) -> List[Check]:
    """Room where bundles and logs go."""
    there = next(path for path in [machine.store] + list(machine.store.parents) if path.exists())
    free = shutil.disk_usage(str(there)).free // 2**20
    remedy = "delete old flight logs and bundles, apt-get clean"
    return [_check_amount("free disk", free, _LEAST_DISK, _GOOD_DISK, remedy, " at {}".format(there))]


def check_time(machine: Machine) -> List[Check]:
    """The wall clock, which only logs and the outside world see; the loop itself has its own."""
    now = time.gmtime(machine.now)
    date = time.strftime("%Y-%m-%d %H:%M UTC", now)
    remedy = "connect it to a network once with timedatectl set-ntp true, or let GPS set the clock (chrony)"
    if not _SANE_YEARS[0] <= now.tm_year < _SANE_YEARS[1]:
        return [Check("time", PROBLEM, date + " cannot be", remedy)]
    source = _is_synchronised(machine)
    if source is None:
        return [Check("time", WARNING, date + ", nobody says whether it is synchronised", remedy)]
    if not source:
        return [Check("time", WARNING, date + ", not synchronised", remedy)]
    return [Check("time", OK, date + ", synchronised")]


def _check_device(machine: Machine, name: str, device: Path) -> Check:
    shown = "/" + str(device.relative_to(machine.root))
    if may_open(machine, device):
        return Check(name, OK, shown)
    group = group_of(machine, device)
    value = "{}: {} may not open it".format(shown, machine.user)
    if group is not None:
        return Check(name, PROBLEM, value, "sudo usermod -aG {} {}".format(group, machine.user))
    usual = "dialout" if "tty" in device.name else "video"
    rule = 'KERNEL=="{}", GROUP="{}", MODE="0660"'.format(device.name, usual)
    return Check(name, PROBLEM, value, "write {} into /etc/udev/rules.d/99-skylight.rules, and restart".format(rule))


def _check_named(machine: Machine, port: str) -> Check:
    path = machine.path(port)
    if not path.exists():
        return Check("serial port", PROBLEM, port + " is not there", "connect it, or correct " + str(machine.settings))
    return _check_device(machine, "serial port", path)


def _named_ports(machine: Machine) -> List[str]:
    """Every /dev/tty... that a line of the settings file gives."""
    return list(dict.fromkeys(re.findall(r"/dev/tty\w+", _settings_text(machine))))


def _settings_text(machine: Machine) -> str:
    """The settings file without its comments, "" without a file."""
    try:
        text = machine.settings.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(line.split("#")[0] for line in text.splitlines())


def _check_mode(machine: Machine) -> Check:
    """nvpmodel keeps the number of its mode in a file, "pmode:0003"."""
    found = re.search(r"pmode:(\d+)", machine.read("/var/lib/nvpmodel/status") or "")
    modes = machine.board.get("power_modes", [])
    if found is None:
        default = next((mode for mode in modes if mode.get("is_default")), None)
        value = "never set, so {}".format(default["name"] if default else "the default")
        return Check("power mode", OK, value)
    number = int(found.group(1))
    mode = next((mode for mode in modes if mode["id"] == number), None)
    if mode is None:
        level = WARNING if modes else OK
        remedy = "sudo nvpmodel -q; the bundle's board may be another" if modes else ""
        return Check("power mode", level, "{}, unknown to the bundle's board".format(number), remedy)
    value = "{} ({})".format(number, mode["name"])
    fastest = max(modes, key=lambda one: one.get("gpu_mhz") or 0)
    if (mode.get("gpu_mhz") or 0) < (fastest.get("gpu_mhz") or 0):
        text = "if frames come late: sudo nvpmodel -m {} ({}), and mind the heat".format(fastest["id"], fastest["name"])
        return Check("power mode", WARNING, value + ", not the fastest", text)
    return Check("power mode", OK, value)


def _check_clocks(machine: Machine) -> Check:
    """jetson_clocks lets the lowest clock be the highest."""
    moving, fixed = [], 0
    limits = [
        (path, "scaling_min_freq", "scaling_max_freq") for path in machine.glob("/sys/devices/system/cpu/cpufreq/*")
    ]
    limits += [(path, "min_freq", "max_freq") for path in machine.glob("/sys/class/devfreq/*") if _is_gpu(path.name)]
    for path, low, high in limits:
        shown = "/" + str(path.relative_to(machine.root))
        lowest, highest = machine.read(shown + "/" + low), machine.read(shown + "/" + high)
        if lowest is None or highest is None:
            continue
        if lowest == highest:
            fixed += 1
        else:
            moving.append(path.name)
    if moving:
        remedy = "sudo jetson_clocks, for even times per frame; it costs power"
        return Check("clocks", WARNING, "go up and down: " + ", ".join(moving), remedy)
    return Check("clocks", OK, "{} at their highest".format(fixed) if fixed else "not told by this kernel")


def _is_gpu(name: str) -> bool:
    """The GPU's device: gp10b (TX2), gv11b (Xavier), gpu or ga10b (Orin), gm20b is called gpu (Nano)."""
    return any(word in name for word in ("gpu", "gp10b", "gv11b", "ga10b"))


def _check_amount(name: str, found: int, least: int, good: int, remedy: str, where: str = "") -> Check:
    level = PROBLEM if found < least else WARNING if found < good else OK
    value = "{} MiB{}".format(found, where)
    return Check(name, level, value, "" if level == OK else "{}; {} MiB are good".format(remedy, good))


def _is_synchronised(machine: Machine) -> Optional[bool]:
    """What timedatectl says, or chrony where that does not; None where nobody does."""
    told = run_tool(machine, "timedatectl", "status")
    found = re.search(r"synchronized: (yes|no)", told or "")
    if found is not None and found.group(1) == "yes":
        return True
    tracking = run_tool(machine, "chronyc", "tracking")
    leap = re.search(r"Leap status\s*: (.+)", tracking or "")
    if leap is not None:
        return leap.group(1).strip() != "Not synchronised"
    return None if found is None else False
