"""The flight loop, from top to bottom: newest frame, resize, network, decode, publish."""

import time
from collections import deque
from typing import Callable, Deque, Dict, List, NamedTuple, Optional

import numpy as np

from deploy.backends import OnnxRuntimeBackend
from deploy.bundle import Bundle
from deploy.decode import detections_from_network
from deploy.outputs import Outputs
from deploy.resize import resize_image, to_tensor
from deploy.sources import Source

STAGES = ("read", "resize", "network", "decode", "draw", "write")

# Milliseconds are kept for the newest frames only, so that a run of days needs no more memory than one of minutes.
_KEPT = 10000


class Summary(NamedTuple):
    """frames: run. dropped: arrived while busy. detections: found in all. seconds: of the whole run.

    milliseconds: stage -> (median, 99th percentile).
    """

    frames: int
    dropped: int
    detections: int
    seconds: float
    milliseconds: Dict[str, List[float]]


def run(
    source: Source,
    bundle: Bundle,
    backend: OnnxRuntimeBackend,
    outputs: Optional[Outputs] = None,
    max_frames: Optional[int] = None,
    should_stop: Optional[Callable[[], bool]] = None,
    on_frame: Optional[Callable[[int], None]] = None,
) -> Summary:
    """Run the network on every frame of `source` until it ends, `max_frames` are done or `should_stop` says so."""
    times: Dict[str, Deque[float]] = {stage: deque(maxlen=_KEPT) for stage in STAGES}
    frames = found = 0
    started = stage_start = time.perf_counter()
    for frame in source:
        marks = [stage_start, time.perf_counter()]
        image, placement = resize_image(frame.image, bundle.width, bundle.height, bundle.resize_mode)
        tensor = to_tensor(image)
        marks.append(time.perf_counter())
        boxes, scores = backend.infer(tensor)
        marks.append(time.perf_counter())
        detections = detections_from_network(boxes, scores, bundle.score_threshold, bundle.nms_threshold, placement)
        marks.append(time.perf_counter())
        age = time.monotonic() - frame.captured
        if outputs is not None:
            outputs.picture(frame, detections, (marks[3] - marks[2]) * 1000)
        marks.append(time.perf_counter())
        if outputs is not None:
            spent = {stage: (b - a) * 1000 for stage, a, b in zip(STAGES, marks, marks[1:])}
            outputs.frame(frame, detections, age, spent)
        marks.append(time.perf_counter())
        for stage, begin, end in zip(STAGES, marks, marks[1:]):
            times[stage].append((end - begin) * 1000)
        frames += 1
        found += len(detections.scores)
        if on_frame is not None:
            on_frame(frames)
        if frames == max_frames or (should_stop is not None and should_stop()):
            break
        stage_start = time.perf_counter()
    percentiles = {
        stage: [round(float(value), 3) for value in np.percentile(kept, (50, 99))]
        for stage, kept in times.items()
        if kept
    }
    return Summary(frames, source.dropped, found, time.perf_counter() - started, percentiles)
