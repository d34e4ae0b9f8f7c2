"""How far each zone is from where the board slows down: from the board's file, the kernel's trip points, the settings.

Knows nothing of the ladder's rungs.
"""

import re
from typing import Any, Dict, NamedTuple, Optional, Tuple

from deploy.health.ladder import COOL, HOLD, HOT
from deploy.health.sensors import Readings, Trips, is_plausible
from deploy.health.settings import HealthSettings


class Verdict(NamedTuple):
    """pressure: COOL, HOLD or HOT. reason: why, for people. headroom: °C of the hottest zone to where it is hot."""

    pressure: int
    reason: str
    headroom: Optional[float]


class Limits:
    """thermal: `Bundle.board["thermal"]`, of which zones, ignored and hardware_shutdown are used, where they are."""

    def __init__(self, thermal: Dict[str, Any], settings: HealthSettings) -> None:
        self._settings = settings
        self._zones = {zone["name"]: zone for zone in thermal.get("zones") or ()}
        self._hardware_shutdown = thermal.get("hardware_shutdown")
        self.ignored: Tuple[str, ...] = tuple(thermal.get("ignored") or ())

    def watched(self, readings: Readings) -> Dict[str, float]:
        """°C by zone: those that the board's file names; all, where it names none or none of them is there."""
        known = {name: value for name, value in readings.temperatures.items() if name in self._zones}
        return known or dict(readings.temperatures)

    def hot_at(self, zone: str, trips: Optional[Trips]) -> float:
        """°C from which a zone counts as hot: a margin below where clocks go down, or a larger one below a shutdown."""
        settings, about = self._settings, self._zones.get(zone, {})
        slowdown = about.get("slowdown") or (trips.slowdown if trips else None)
        shutdowns = [about.get("shutdown"), trips.shutdown if trips else None, self._hardware_shutdown]
        points = [value - settings.shutdown_margin for value in shutdowns if value is not None]
        if slowdown is not None:
            points.append(slowdown - settings.margin)
        return float(min(points)) if points else settings.limit - settings.margin

    def judge(self, readings: Readings) -> Verdict:
        """What a look at the sensors asks for; without any temperature it asks for nothing, neither up nor down."""
        temperatures = self.watched(readings)
        if readings.throttled:
            return Verdict(HOT, "the board holds back " + ", ".join(readings.throttled), None)
        if not temperatures:
            return Verdict(HOLD, "no temperature can be read", None)
        headrooms = {name: self.hot_at(name, readings.trips.get(name)) - value for name, value in temperatures.items()}
        zone = min(headrooms, key=lambda name: (headrooms[name], name))
        least = headrooms[zone]
        reason = "{} has {:.1f} C, hot from {:.1f}".format(zone, temperatures[zone], temperatures[zone] + least)
        if least <= 0:
            return Verdict(HOT, reason, least)
        return Verdict(COOL if least > self._settings.hysteresis else HOLD, reason, least)


def with_tegrastats(readings: Readings, temperatures: Dict[str, float]) -> Readings:
    """Fill in zones that the kernel's files do not give from those of tegrastats, which calls BCPU-therm BCPU."""
    said = {_stem(name): value for name, value in temperatures.items() if is_plausible(value)}
    found = {zone: said[_stem(zone)] for zone in readings.problems if _stem(zone) in said}
    problems = {zone: why for zone, why in readings.problems.items() if zone not in found}
    return readings._replace(temperatures=dict(found, **readings.temperatures), problems=problems)


def _stem(zone: str) -> str:
    return re.sub(r"[-_](therm|thermal|tegra|Die)$", "", zone).lower()
