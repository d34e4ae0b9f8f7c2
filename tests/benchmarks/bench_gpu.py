"""Training on a GPU: 300 iterations of 64 pictures at 416, host memory to saved weights, and the target stage's grid.

    python tests/benchmarks/bench_gpu.py [--out FILE]

Needs torch, numpy, OpenCV and pydantic alone. Pictures are noise with boxes drawn on it: their content changes no
speed, and AP is not measured here. Everything is measured after a warm-up of the same shape, and steps run both one by
one and as a CUDA graph. Where Ultralytics is installed, its own trainer runs on the same pictures after that.
"""

import argparse
import importlib.util
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from measure import run_measured

from pipeline.darknet import DarknetNetwork, adapted, network_cfg
from pipeline.experiment import Augment
from pipeline.interrupt import StopRequest
from pipeline.networks.darknet import DarknetDetector
from pipeline.train.dataset import ImageTensors
from pipeline.train.loop import Runtime, train_trial
from pipeline.train.processes import this_process
from pipeline.train.schedule import view_count
from pipeline.train.trial import TrialFolder, TrialSettings

HERE = Path(__file__).resolve().parent
SIZE, FREEZES, STARTS = 416, (0, 13, 20), 3


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=512)
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "gpu.json")
    options = parser.parse_args()
    data = _draw(options.pictures, options.size)
    results: dict[str, Any] = {}
    for is_captured in (False, True) if torch.cuda.is_available() else (False,):
        name = "as a graph" if is_captured else "one by one"
        try:
            results[name] = _measure(data, options, is_captured)
        except RuntimeError as error:  # a capture that fails must not lose what was measured before
            if not is_captured:
                raise
            results[name] = {"error": " ".join(str(error).split())[:300]}
        print(name, json.dumps(results[name]), flush=True)
    try:
        results["ultralytics"] = _ultralytics(data, options)
    except SystemExit as error:  # nor must theirs
        results["ultralytics"] = {"error": str(error)}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    machine = {"device": device, "torch": torch.__version__, "python": platform.python_version()}
    about = {key: getattr(options, key) for key in ("pictures", "iterations", "batch", "size")}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"machine": machine, "settings": about, "results": results}, indent=2) + "\n")


def _measure(data: ImageTensors, options: argparse.Namespace, is_captured: bool) -> dict[str, Any]:
    """Seconds of one trial at freeze 0, and of the grid."""
    short = argparse.Namespace(**{**vars(options), "iterations": 10})
    for freeze in FREEZES:
        _train(data, short, freeze, 0, is_captured)
    found: dict[str, Any] = {}
    for freeze in FREEZES:
        seconds, speed = _train(data, options, freeze, 0, is_captured)
        found[f"freeze {freeze}"] = {"seconds": round(seconds, 3), "images_per_second_of_training": round(speed, 1)}
    started = time.perf_counter()
    for start in range(STARTS):
        for freeze in FREEZES:
            _train(data, options, freeze, start, is_captured)
    found["grid of 3 starts and 3 freeze counts, seconds"] = round(time.perf_counter() - started, 3)
    return found


def _train(
    data: ImageTensors, options: argparse.Namespace, freeze: int, seed: int, is_captured: bool
) -> tuple[float, float]:
    """Seconds from pictures in host memory to saved weights, and images per second of training alone."""
    processes = this_process()
    torch.manual_seed(seed)
    network = DarknetNetwork(adapted(network_cfg("yolov3-tiny"), options.size, options.size, 1))
    with tempfile.TemporaryDirectory() as root:
        started = time.perf_counter()
        detector = DarknetDetector(network).to(processes.device)
        frozen = tuple(index for index in detector.weighted_layers if index < freeze)
        settings = _settings(options, frozen, seed, len(data))
        runtime = Runtime(processes, is_captured=is_captured)
        result = train_trial(TrialFolder(Path(root)), settings, detector, (), data, None, StopRequest(), runtime)
        seconds = time.perf_counter() - started
    assert result is not None
    return seconds, result.images_per_second


def _settings(options: argparse.Namespace, frozen: tuple[int, ...], seed: int, count: int) -> TrialSettings:
    is_cuda = torch.cuda.is_available()
    return TrialSettings(
        experiment="gpu",
        stage="target",
        start="random",
        start_sha256=None,
        start_layers=None,
        freeze=str(len(frozen)),
        frozen=frozen,
        seed=seed,
        network="yolov3-tiny",
        network_sha256="",
        size=options.size,
        classes=("window",),
        data="noise",
        data_hash="",
        resize="stretch",
        iterations=options.iterations,
        evaluate_at=(options.iterations,),
        batch=options.batch,
        subdivisions=1,
        learning_rate=0.001,
        learning_rate_steps={},
        momentum=0.9,
        decay=0.0005,
        burn_in=50,
        batch_norm_momentum=0.1,
        loss="alexeyab",
        precision="bfloat16" if is_cuda else "float32",
        augment=Augment(),
        views=view_count(options.iterations, options.batch, count) if frozen else 0,
        ema=None,
        best_by="ap50",
        stop_early=None,
        checkpoint_every=None,
    )


def _draw(count: int, size: int) -> ImageTensors:
    """Noise with grey rectangles, their boxes as truth."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    truth = torch.zeros(count, 8, 5)
    truth[:, :4, :2] = torch.rand((count, 4, 2), generator=generator) * 0.6 + 0.2
    truth[:, :4, 2:4] = torch.rand((count, 4, 2), generator=generator) * 0.2 + 0.05
    for image, rows in zip(images, truth, strict=True):
        for cx, cy, width, height, _ in (rows[:4] * size).tolist():
            top, left = int(cy - height / 2), int(cx - width / 2)
            image[:, top : top + int(height), left : left + int(width)] = 128
    return ImageTensors(images, truth, (), ())


def _ultralytics(data: ImageTensors, options: argparse.Namespace) -> dict[str, Any]:
    """Their trainer on the same pictures, as JPEG files, which is what it reads."""
    if importlib.util.find_spec("ultralytics") is None:
        return {"not measured": "ultralytics is not installed on this machine"}
    device, threads = "0" if torch.cuda.is_available() else "cpu", os.cpu_count() or 1
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as root:
        yaml = _write_yolo(data, Path(root) / "set")
        for freeze in FREEZES[:2]:
            more = (options.iterations, threads, root, options.size, options.batch, device)
            said = run_measured((HERE / "ultralytics_trainer.py").read_text(), [yaml, freeze, *more]).said
            speed = round(said["images"] / said["seconds"], 1)
            found[f"freeze {freeze}"] = {"seconds": round(said["seconds"], 3), "images_per_second": speed}
    return found


def _write_yolo(data: ImageTensors, root: Path) -> Path:
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    names = [f"{index:05d}" for index in range(len(data))]
    for name, image, rows in zip(names, data.images, data.truth, strict=True):
        cv2.imwrite(str(root / "images" / f"{name}.jpg"), image.permute(1, 2, 0).numpy())
        labels = [row for row in rows.tolist() if row[2] > 0]
        text = "".join(f"0 {cx:.6f} {cy:.6f} {width:.6f} {height:.6f}\n" for cx, cy, width, height, _ in labels)
        (root / "labels" / f"{name}.txt").write_text(text)
    (root / "train.txt").write_text("".join(f"./images/{name}.jpg\n" for name in names))
    (root / "data.yaml").write_text(f"path: {root}\ntrain: train.txt\nval: train.txt\nnames: [window]\n")
    return root / "data.yaml"


if __name__ == "__main__":
    main()
