"""Figures in Prometheus' text exposition format 0.0.4. Knows the status by its keys, and takes what it does not know.

Format: Prometheus, "Exposition formats", text-based format: a line HELP and one TYPE per family, its samples together,
backslash, quote and line feed escaped, a line feed at the end.
"""

import math
import re
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Tuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LOST = 5.0  # seconds without an observation after which the drone counts as ill
_QUANTILES = ("0.5", "0.99")
_DEPTH = 3
# By the path of their keys in the status: name, type, what it is.
_KNOWN = {
    "loop.frames": ("loop_frames_total", "counter", "Frames that the network ran on."),
    "loop.dropped": ("loop_dropped_frames_total", "counter", "Frames of the source that were never run."),
    "loop.stale": ("loop_stale_frames_total", "counter", "Frames older than the limit when they were published."),
    "loop.corrupt": ("loop_corrupt_frames_total", "counter", "Frames that were no picture."),
    "loop.detections": ("loop_detections_total", "counter", "Objects found in all frames."),
    "loop.rate": ("loop_frames_per_second", "gauge", "Frames a second, lately."),
    "heat.level": ("heat_level", "gauge", "Rung of the heat ladder, 0 is normal."),
}


class Family(NamedTuple):
    """One metric: its samples are (labels, value)."""

    name: str
    kind: str
    text: str
    samples: List[Tuple[Dict[str, str], float]]


def metrics_text(status: Mapping[str, Any], page: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    """The whole answer. status: of every part by name. page: what the page knows itself. counts: events by kind."""
    families: Dict[str, Family] = {}
    for family in [*_page(page), *_events(counts), *_labelled(status), *_others(status)]:
        families.setdefault(family.name, family)
    return "".join(_lines(family) for family in families.values() if family.samples)


def _page(page: Mapping[str, Any]) -> Iterable[Family]:
    newest = page.get("newest") or {}
    yield _one("frames_published_total", "counter", "Observations that the loop published.", newest.get("number", 0))
    yield _one("frame_age_seconds", "gauge", "Age of the newest observation, now.", newest.get("age"))
    yield _one("frame_published_seconds", "gauge", "Since the loop published.", newest.get("published_ago"))
    is_current = newest.get("is_current") and newest.get("published_ago", 0.0) <= LOST
    text = "1 where the newest was within its limit when it was published, and that was at most 5 s ago."
    yield _one("frame_current", "gauge", text, is_current if newest else None)
    yield _one("source_dropped_frames_total", "counter", "Frames that were never run.", newest.get("dropped"))
    yield _one("web_pictures_total", "counter", "Pictures encoded for those who watch.", page.get("encoded"))
    yield _one("web_refused_total", "counter", "Requests refused at the door.", page.get("refused"))
    yield _one("web_watchers", "gauge", "Connections that look at pictures.", page.get("watchers"))


def _events(counts: Mapping[str, int]) -> Iterable[Family]:
    samples = [({"kind": kind}, float(count)) for kind, count in sorted(counts.items())]
    yield Family("skylight_events_total", "counter", "Events by kind.", samples)


def _labelled(status: Mapping[str, Any]) -> Iterable[Family]:
    loop, heat, bundle = (_dict(status.get(name)) for name in ("loop", "heat", "bundle"))
    stages = []
    for stage, values in _dict(loop.get("milliseconds")).items():
        row = values if isinstance(values, (list, tuple)) else [values]
        pairs = zip(_QUANTILES, row)
        stages += [({"stage": stage, "quantile": q}, value / 1000) for q, value in pairs if _is_number(value)]
    text = "Time that a stage takes, by quantile of the newest frames."
    yield Family("skylight_stage_seconds", "gauge", text, stages)
    budgets = _numbers(loop.get("budget_ms"), "stage", 0.001)
    yield Family("skylight_stage_budget_seconds", "gauge", "Time that the board's file gives a stage.", budgets)
    zones = _numbers(heat.get("temperatures"), "zone")
    yield Family("skylight_temperature_celsius", "gauge", "Temperature of a zone.", zones)
    limits = _numbers(heat.get("limits"), "zone")
    yield Family("skylight_temperature_limit_celsius", "gauge", "Temperature from which a zone is too hot.", limits)
    sent = _numbers(_dict(status.get("mavlink")).get("sent"), "message")
    yield Family("skylight_mavlink_sent_total", "counter", "Messages sent to the autopilot.", sent)
    labels = {_clean(key): str(value) for key, value in bundle.items() if isinstance(value, (str, int))}
    about = [(labels, 1.0)] if labels else []
    yield Family("skylight_bundle_info", "gauge", "What runs.", about)


def _others(status: Mapping[str, Any]) -> Iterable[Family]:
    """Every other number, under the path of its keys."""
    taken = ("loop.milliseconds", "loop.budget_ms", "heat.temperatures", "heat.limits", "mavlink.sent", "bundle")
    for path, value in _leaves(status, ()):
        dotted = ".".join(path)
        if any(dotted == one or dotted.startswith(one + ".") for one in taken):
            continue
        name, kind, text = _KNOWN.get(dotted, ("_".join(path), "untyped", dotted))
        yield _one(name, kind, text, value)


def _leaves(values: Mapping[str, Any], path: Tuple[str, ...]) -> Iterable[Tuple[Tuple[str, ...], Any]]:
    for key, value in values.items():
        here = path + (str(key),)
        if isinstance(value, dict) and len(here) < _DEPTH:
            for leaf in _leaves(value, here):
                yield leaf
        elif _is_number(value):
            yield here, value


def _one(name: str, kind: str, text: str, value: Any) -> Family:
    samples = [({}, float(value))] if _is_number(value) else []  # type: List[Tuple[Dict[str, str], float]]
    return Family("skylight_" + _clean(name), kind, text, samples)


def _numbers(values: Any, label: str, factor: float = 1.0) -> List[Tuple[Dict[str, str], float]]:
    return [({label: str(key)}, value * factor) for key, value in _dict(values).items() if _is_number(value)]


def _dict(value: Any) -> Dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float))


def _clean(name: str) -> str:
    """As a metric's or label's name: [a-zA-Z_][a-zA-Z0-9_]*."""
    text = re.sub(r"[^a-zA-Z0-9_]", "_", name)
    return "_" + text if text[:1].isdigit() or not text else text


def _lines(family: Family) -> str:
    help_text = family.text.replace("\\", "\\\\").replace("\n", "\\n")
    lines = ["# HELP {} {}".format(family.name, help_text), "# TYPE {} {}".format(family.name, family.kind)]
    lines += [family.name + _labels(sorted(labels.items())) + " " + _value(value) for labels, value in family.samples]
    return "\n".join(lines) + "\n"


def _labels(pairs: Sequence[Tuple[str, str]]) -> str:
    if not pairs:
        return ""
    return "{" + ",".join('{}="{}"'.format(key, _escaped(value)) for key, value in pairs) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _value(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(float(value))
