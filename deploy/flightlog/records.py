"""What stands in a flight's records: JSON values, made from what the loop tells. Touches no file.

header   first in every segment: number, id, bundle, settings, versions, camera, when it began on both clocks
frame    as a line of detections.jsonl (deploy/outputs.py), with tracks, the limit of age and the network's size
sent     a message to the autopilot, as it was handed over
event    what happened beside frames (deploy/events.py)
heat     what the board said of itself (deploy/health)
kept     a frame worth labelling: its file, and the rules
dropped  how many records of which kind could not be written since the last time

Every record but the header has `n`, its number in the flight, and `t`, seconds on the monotonic clock. A number that
is missing was not written, or its line is damaged.
"""

import platform
from typing import Any, Dict, Sequence, Tuple

import cv2
import numpy as np

from deploy.bundle import Bundle
from deploy.events import Event
from deploy.flightlog.worth import Reason
from deploy.frame import Frame, Observation
from deploy.version import VERSION

SCHEMA = 1


def about_bundle(bundle: Bundle) -> Dict[str, Any]:
    """What the header says of the bundle; the hash is that of the model that runs first."""
    return {
        "name": bundle.name,
        "version": bundle.version,
        "models": [model._asdict() for model in bundle.models],
        "sha256": bundle.files[bundle.models[0].file].sha256,
        "classes": list(bundle.classes),
        "score_threshold": bundle.score_threshold,
        "nms_threshold": bundle.nms_threshold,
        "resize_mode": bundle.resize_mode,
        "board": bundle.board.get("name"),
        "trust": bundle.signature.text,
    }


def versions() -> Dict[str, str]:
    """Of what flies, and of what computes here."""
    libraries = {"python": platform.python_version(), "numpy": np.__version__, "opencv": cv2.__version__}
    return dict(libraries, skylight=VERSION)


def frame_record(observation: Observation, classes: Sequence[str]) -> Dict[str, Any]:
    """Boxes in pixels of the source image, two digits; times in milliseconds."""
    frame = observation.frame
    return {
        "type": "frame",
        "frame": frame.number,
        "name": frame.name,
        "captured": round(frame.captured, 6),
        "source_time": frame.source_time,
        "age_ms": round(observation.age * 1000, 3),
        "limit_ms": round(observation.limit * 1000, 3),
        "dropped": observation.dropped,
        "network": list(observation.network),
        "detections": detection_rows(observation, classes),
        "tracks": [
            {
                "number": track.number,
                "class": track.class_index,
                "score": round(float(track.score), 5),
                "box": [round(float(value), 2) for value in track.box],
                "velocity": [round(float(value), 2) for value in track.velocity],
                "hits": track.hits,
                "bridged_ms": round(track.bridged * 1000, 1),
            }
            for track in observation.tracks
        ],
        "milliseconds": {stage: round(float(value), 3) for stage, value in observation.milliseconds.items()},
    }


def detection_rows(observation: Observation, classes: Sequence[str]) -> list:
    """The detections of a frame, best first."""
    return [
        {
            "class": int(index),
            "name": classes[int(index)] if int(index) < len(classes) else str(int(index)),
            "score": round(float(score), 5),
            "box": [round(float(value), 2) for value in box],
        }
        for box, score, index in zip(*observation.detections)
    ]


def event_record(event: Event) -> Dict[str, Any]:
    """With the time on the wall, which an event has."""
    return {"type": "event", "level": event.level, "kind": event.kind, "text": event.text, "wall": event.wall}


def kept_record(frame: Frame, file: str, reasons: Tuple[Reason, ...]) -> Dict[str, Any]:
    """file: name below the flight's folder."""
    height, width = frame.image.shape[:2]
    why = [{"rule": reason.rule, "score": round(reason.score, 4)} for reason in reasons]
    return {"type": "kept", "frame": frame.number, "file": file, "width": width, "height": height, "rules": why}
