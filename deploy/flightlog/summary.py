"""What a flight was, from its records: counts, ages, events, for people and for machines."""

import time
from collections import Counter
from typing import Any, Dict, List
from typing import Counter as Counts

from deploy.flightlog.reading import FlightRecords, flight_name
from deploy.percentiles import percentiles

_AGES = 200000  # frames whose age is kept for the percentiles
_EVENTS = 20


def flight_summary(records: FlightRecords) -> Dict[str, Any]:
    """JSON values: flight, bundle, camera, duration in seconds, counts by type, ages in ms, rules, events, problems."""
    counts: Counts[str] = Counter()
    rules: Counts[str] = Counter()
    events: List[Dict[str, Any]] = []
    ages = _Thinned(_AGES)
    times: List[float] = []
    found = late = 0
    lost: Counts[str] = Counter()
    for record in records:
        kind = str(record.get("type"))
        counts[kind] += 1
        if kind != "header":
            times = [times[0] if times else record["t"], record["t"]]
        if kind == "frame":
            found += len(record["detections"])
            late += record["age_ms"] > record["limit_ms"]
            ages.add(record["age_ms"])
        elif kind == "kept":
            rules.update(rule["rule"] for rule in record["rules"])
        elif kind == "event":
            events = (events + [record])[-_EVENTS:]
        elif kind == "dropped":
            lost.update(record["records"])
    header = records.header
    return {
        "flight": flight_name(header, records.folder),
        "folder": str(records.folder),
        "began": (header.get("began") or {}).get("wall"),
        "seconds": round(times[1] - times[0], 3) if times else 0.0,
        "bundle": header.get("bundle"),
        "about": header.get("about"),
        "records": dict(counts),
        "detections": found,
        "age_ms": percentiles(ages.values),
        "too_old": late,
        "kept": dict(rules),
        "dropped": dict(lost),
        "events": [{key: event.get(key) for key in ("t", "level", "kind", "text")} for event in events],
        "problems": list(records.problems),
    }


def flight_text(about: Dict[str, Any]) -> str:
    """The same, a line per thing; what comes out of the log is printed without control characters."""
    bundle, counts = about["bundle"] or {}, about["records"]
    began = about["began"]
    wall = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(began)) if began else "unknown"
    lines = [
        "{}: {:.1f} s, from {} by the board's clock".format(about["flight"], about["seconds"], wall),
        "bundle     {} {}, model {}...".format(
            bundle.get("name"), bundle.get("version"), str(bundle.get("sha256"))[:12]
        ),
        "frames     {} with {} detections, {} too old to be told".format(
            counts.get("frame", 0), about["detections"], about["too_old"]
        ),
    ]
    if about["age_ms"]:
        lines.append("age        {:.1f} ms median, {:.1f} ms p99".format(*about["age_ms"]))
    lines.append("sent       {} messages".format(counts.get("sent", 0)))
    lines.append("kept       {} frames: {}".format(counts.get("kept", 0), _said(about["kept"])))
    if about["dropped"]:
        lines.append("dropped    {}".format(_said(about["dropped"])))
    for event in about["events"]:
        lines.append("event      {:.1f} {}: {}: {}".format(event["t"], event["level"], event["kind"], event["text"]))
    lines += ["damaged    {}".format(problem) for problem in about["problems"]]
    return "\n".join("".join(letter if letter.isprintable() else "?" for letter in line) for line in lines)


class _Thinned:
    """Values spread evenly over all that were added, `most` of them: every one, every second, every fourth, ..."""

    def __init__(self, most: int) -> None:
        self.values: List[float] = []
        self._most, self._every, self._added = most, 1, 0

    def add(self, value: float) -> None:
        """Keep it, where it is its turn."""
        if self._added % self._every == 0:
            self.values.append(value)
        self._added += 1
        if len(self.values) > self._most:
            self.values, self._every = self.values[::2], 2 * self._every


def _said(counts: Dict[str, int]) -> str:
    return ", ".join("{} {}".format(count, name) for name, count in sorted(counts.items())) or "none"
