"""What the flight loop costs beside the network, and how old its detections are, beside two loops that people use.

    python tests/benchmarks/bench_loop.py ../shared/data/facades

Skylight's loop, Ultralytics' predict(stream=True) and a plain loop over OpenCV DNN run the same ONNX file (Tiny-YOLOv3
at 416, random weights, a threshold that about 20 boxes pass) on the same video in turns, on one core. "overhead" is the
time of a frame without the network call: as measured around `infer`, as Ultralytics says in `speed`, around `forward`.
What no loop can avoid, reading a frame and cv2.resize, is measured in the same run; it bounds every ratio of overheads.
"with tracks" is Skylight's loop with its tracker, which the others have no counterpart of. ONNX Runtime gives its own
threads to the other core when it is not told otherwise: Ultralytics' network call gains from it, its overhead does not.

For the age a server in another process, on another core, streams the same frames as MJPEG over HTTP at 30 frames a
second, each with the moment at which it was sent drawn into it; the age of a frame is read from the frame itself when
its detections are there.
"""

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CORE = min(os.sched_getaffinity(0))
os.sched_setaffinity(0, {CORE})  # before any library counts cores

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from measure import write_result  # noqa: E402
from stamped_stream import serve_stream, stamp_of  # noqa: E402

from deploy.backends import Networks, OnnxRuntimeBackend  # noqa: E402
from deploy.bundle import Bundle, write_bundle  # noqa: E402
from deploy.frame import Observation  # noqa: E402
from deploy.loop import STAGES, Loop, LoopSettings  # noqa: E402
from deploy.part import Part  # noqa: E402
from deploy.resize import network_input  # noqa: E402
from deploy.sources import open_source  # noqa: E402
from deploy.tracks import Tracker, TrackSettings  # noqa: E402
from deploy.vision import Vision  # noqa: E402

SIZE = 416
NMS = 0.45


@dataclass(frozen=True)
class Timed:
    """Of every frame, in milliseconds: all of it, and the network call; detections in all; `age` where it is known."""

    total: list[float]
    network: list[float]
    detections: int
    age: list[float]
    stages: dict[str, list[float]]


def main() -> None:
    """Print the table and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="folder with pictures, looked through at any depth")
    parser.add_argument("--frames", type=int, default=150, help="in each of the rounds [%(default)s]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "loop.json")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        video = _video(Path(folder), options.photos, options.frames)
        bundle = _bundle(Path(folder), video)
        runs = {name: [run(bundle, str(video), False) for _ in range(options.rounds)] for name, run in _in_turns()}
        reading, resizing = _unavoidable(bundle, video)
        with serve_stream(video, 30.0, CORE) as address:
            aged = {name: run(bundle, address, True) for name, run in _in_turns()}
    rows = {name: _row(rounds, aged[name], reading) for name, rounds in runs.items()}
    _print(rows)
    own, others = rows["skylight"], [rows["ultralytics"], rows["opencv"]]
    better = min(row["overhead_ms"][0] for row in others)
    result = {
        "loops": rows,
        "reading_ms": reading,
        "resizing_ms": resizing,
        "overhead_ratio": better / own["overhead_ms"][0],
        "largest_possible_ratio": better / (reading + resizing),
        "beside_reading_ratio": min(row["beside_reading_ms"] for row in others) / own["beside_reading_ms"],
        "share_of_network": own["beside_reading_ms"] / own["network_ms"][0],
    }
    print(f"what no loop can avoid: {reading:.2f} ms to read a frame, {resizing:.2f} ms in cv2.resize")
    print(f"overhead of the better of the others over Skylight's: {result['overhead_ratio']:.2f}")
    print(f"the same over that of a loop that did nothing else: {result['largest_possible_ratio']:.2f}")
    print(f"the same without reading: {result['beside_reading_ratio']:.2f}")
    print(f"Skylight's, without reading, of its network call: {result['share_of_network']:.1%}")
    write_result(options.out, sys.argv, result)


def _unavoidable(bundle: Bundle, video: Path) -> tuple[float, float]:
    """Milliseconds that OpenCV needs to read a frame of the video, and to resize it, medians.

    The network runs between two frames, as in every loop: it drives everything else out of the processor's caches.
    """
    backend, tensor = OnnxRuntimeBackend(bundle.model, threads=1), np.zeros((1, 3, SIZE, SIZE), np.float32)
    capture = cv2.VideoCapture(str(video))
    spent: list[tuple[float, float]] = []
    while True:
        begin = time.perf_counter()
        is_read, image = capture.read()
        read = time.perf_counter()
        if not is_read:
            reading, resizing = np.median(spent, axis=0)
            return float(reading), float(resizing)
        cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
        spent.append(((read - begin) * 1000, (time.perf_counter() - read) * 1000))
        backend.infer(tensor)


def _in_turns() -> list[tuple[str, Any]]:
    return [
        ("skylight", _skylight),
        ("with tracks", _skylight_with_tracks),
        ("ultralytics", _ultralytics),
        ("opencv", _opencv),
    ]


def _skylight_with_tracks(bundle: Bundle, source: str, is_live: bool) -> Timed:
    return _skylight(bundle, source, is_live, Tracker(TrackSettings()))


def _skylight(bundle: Bundle, source: str, is_live: bool, tracker: Tracker | None = None) -> Timed:
    clock = _Clock(is_live)
    with open_source(source) as opened:
        networks = Networks([Vision(bundle, OnnxRuntimeBackend(bundle.model, threads=1))])
        settings = LoopSettings(frames=_LIVE_FRAMES if is_live else None)
        summary = Loop(opened, networks, [clock], settings, tracker).run()
    stages = {stage: summary.milliseconds[stage] for stage in STAGES}
    return Timed(clock.total, clock.network, summary.detections, clock.age, stages)


_LIVE_FRAMES = 150


class _Clock(Part):
    """Times from one publication to the next."""

    def __init__(self, is_live: bool) -> None:
        self.total: list[float] = []
        self.network: list[float] = []
        self.age: list[float] = []
        self._is_live = is_live
        self._last = 0.0

    def publish(self, observation: Observation) -> None:
        now = time.perf_counter()
        if self._last:
            self.total.append((now - self._last) * 1000)
            self.network.append(observation.milliseconds["network"])
        if self._is_live:
            self.age.append(_age(observation.frame.image))
        self._last = now


def _ultralytics(bundle: Bundle, source: str, is_live: bool) -> Timed:
    from ultralytics import YOLO

    model = YOLO(str(bundle.model), task="detect")
    found = 0
    total: list[float] = []
    network: list[float] = []
    age: list[float] = []
    last = 0.0
    results: Any = model.predict(
        source, stream=True, imgsz=SIZE, conf=bundle.score_threshold, iou=NMS, device="cpu", verbose=False
    )
    for result in results:
        now = time.perf_counter()
        found += len(result.boxes)
        if last:
            total.append((now - last) * 1000)
            network.append(result.speed["inference"])
        if is_live:
            age.append(_age(result.orig_img))
        last = now
        if is_live and len(age) == _LIVE_FRAMES:
            break
    results.close()
    return Timed(total, network, found, age, {})


def _opencv(bundle: Bundle, source: str, is_live: bool) -> Timed:
    net = cv2.dnn.readNetFromONNX(str(bundle.model))
    capture = cv2.VideoCapture(source)
    found = 0
    total: list[float] = []
    network: list[float] = []
    age: list[float] = []
    last = 0.0
    while not (is_live and len(age) == _LIVE_FRAMES):
        is_read, image = capture.read()
        if not is_read:
            break
        blob = cv2.dnn.blobFromImage(image, 1 / 255, (SIZE, SIZE), swapRB=True)
        net.setInput(blob)
        begin = time.perf_counter()
        boxes, scores = net.forward(["boxes", "scores"])
        spent = (time.perf_counter() - begin) * 1000
        found += len(_opencv_detections(boxes[0], scores[0], image.shape, bundle.score_threshold))
        now = time.perf_counter()
        if last:
            total.append((now - last) * 1000)
            network.append(spent)
        if is_live:
            age.append(_age(image))
        last = now
    capture.release()
    return Timed(total, network, found, age, {})


def _opencv_detections(boxes: np.ndarray, scores: np.ndarray, shape: tuple[int, ...], threshold: float) -> list[Any]:
    """As its tutorials do it: best class of each box, boxes as left, top, width, height, NMSBoxes."""
    classes = scores.argmax(axis=1)
    best = scores[np.arange(len(scores)), classes]
    passed = best > threshold
    scale = np.array([shape[1], shape[0]] * 2) / SIZE
    kept = boxes[passed] * scale
    kept[:, 2:] -= kept[:, :2]
    chosen = cv2.dnn.NMSBoxes(kept.tolist(), best[passed].tolist(), threshold, NMS)
    return [(kept[i], best[passed][i], classes[passed][i]) for i in np.array(chosen).ravel()]


def _age(image: np.ndarray) -> float:
    """Milliseconds since the frame was sent, by the moment drawn into it; both processes have one monotonic clock."""
    return (time.monotonic() - stamp_of(image)) * 1000


def _row(rounds: list[Timed], aged: Timed, reading: float) -> dict[str, Any]:
    total = np.concatenate([run.total for run in rounds])
    network = np.concatenate([run.network for run in rounds])
    overhead = total - network
    return {
        "frames": len(total),
        "detections": rounds[0].detections,
        "frames_per_second": 1000 / float(total.mean()),
        "network_ms": _percentiles(network),
        "overhead_ms": _percentiles(overhead),
        "beside_reading_ms": round(float(np.median(overhead)) - reading, 3),
        "age_ms": _percentiles(np.array(aged.age)),
        "stages_ms": rounds[-1].stages,
    }


def _percentiles(values: np.ndarray) -> list[float]:
    return [round(float(value), 3) for value in np.percentile(values, (50, 99))]


def _print(rows: dict[str, dict[str, Any]]) -> None:
    print(
        f"{'':12} {'frames/s':>9} {'network':>9} {'overhead p50':>13} {'p99':>8} {'age p50':>9} {'p99':>9} {'found':>6}"
    )
    for name, row in rows.items():
        rate, network = f"{row['frames_per_second']:9.2f}", f"{row['network_ms'][0]:9.2f}"
        overhead = f"{row['overhead_ms'][0]:13.2f} {row['overhead_ms'][1]:8.2f}"
        age = f"{row['age_ms'][0]:9.1f} {row['age_ms'][1]:9.1f}"
        print(f"{name:12} {rate} {network} {overhead} {age} {row['detections']:6}")
    for stage, (median, slow) in rows["with tracks"]["stages_ms"].items():
        print(f"  {stage:10} {median:8.3f} ms p50 {slow:8.3f} ms p99")


def _video(folder: Path, photos: Path, frames: int) -> Path:
    """A camera that moves slowly over each photo for 15 frames, 1280 x 720, 30 a second, uncompressed."""
    files = sorted(file for file in photos.rglob("*") if file.suffix.lower() in (".jpg", ".png"))
    path = folder / "flight.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"I420"), 30, (1280, 720))
    for index in range(frames):
        photo = cv2.imread(str(files[index // 15 % len(files)]))
        assert photo is not None
        wide = cv2.resize(photo, (1400, 840))
        shift = index % 15
        writer.write(wide[4 * shift : 4 * shift + 720, 8 * shift : 8 * shift + 1280])
    writer.release()
    return path


def _bundle(folder: Path, video: Path) -> Bundle:
    """Tiny-YOLOv3 with one class and random weights, whose file Ultralytics takes too."""
    import torch

    from pipeline.darknet import DarknetNetwork, adapted, network_cfg
    from pipeline.export.onnx import export_onnx
    from pipeline.networks.darknet import DarknetDetector

    torch.manual_seed(0)
    detector = DarknetDetector(DarknetNetwork(adapted(network_cfg("yolov3-tiny"), SIZE, SIZE, 1)))
    model = export_onnx(detector.eval(), 12).model
    manifest: dict[str, Any] = {
        "name": "bench", "version": "1", "classes": ["window"],
        "models": [{"file": "model.onnx", "width": SIZE, "height": SIZE, "precision": "fp32"}],
        "resize_mode": "stretch", "colour_order": "rgb", "score_threshold": 0.5, "nms_threshold": NMS,
        "anchors": [], "masks": [], "board": {"name": "workstation"}, "provenance": {}, "parity": {},
    }  # fmt: skip
    bundle = write_bundle(folder / "bench-1", {"model.onnx": model}, manifest)
    (folder / "all.onnx").write_bytes(_for_ultralytics(model))
    bundle = bundle._replace(root=folder, models=(bundle.models[0]._replace(file="all.onnx"),))
    return bundle._replace(score_threshold=_threshold(bundle, video))


def _threshold(bundle: Bundle, video: Path) -> float:
    """The score that 20 boxes pass in the mean of the first frames."""
    scores = []
    with open_source(str(video)) as source:
        vision = Vision(bundle, OnnxRuntimeBackend(bundle.model, threads=1))
        for frame, _ in zip(source, range(5), strict=False):
            scores.append(vision.backend.infer(network_input(frame.image, SIZE, SIZE, "stretch", "rgb")[0])[1])
    return float(np.sort(np.concatenate(scores).ravel())[-20 * len(scores)])


def _for_ultralytics(data: bytes) -> bytes:
    """The same graph with the output that Ultralytics reads before ours: (1, 4 + classes, M), centre and size."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_from_string(data)
    to_centre = np.array([[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]], np.float32)
    model.graph.initializer.append(numpy_helper.from_array(to_centre, "to_centre"))
    model.graph.node.extend(
        [
            helper.make_node("MatMul", ["boxes", "to_centre"], ["centred"]),
            helper.make_node("Concat", ["centred", "scores"], ["rows"], axis=2),
            helper.make_node("Transpose", ["rows"], ["output0"], perm=[0, 2, 1]),
        ]
    )
    shape = [dimension.dim_value for dimension in model.graph.output[1].type.tensor_type.shape.dim]
    output = helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 4 + shape[2], shape[1]])
    model.graph.output.insert(0, output)
    about = {"task": "detect", "stride": "32", "imgsz": str([SIZE, SIZE]), "batch": "1", "names": "{0: 'window'}"}
    helper.set_model_props(model, about)
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    assert isinstance(data, bytes)
    return data


if __name__ == "__main__":
    main()
