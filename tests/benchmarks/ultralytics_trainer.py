"""Ultralytics' own trainer on their yolov3-tiny at its defaults, without validation and plots; prints its seconds.

    python ultralytics_trainer.py DATA_YAML FREEZE ITERATIONS THREADS FOLDER SIZE BATCH DEVICE

Seconds are of the whole call: reading pictures, training, writing weights; importing is left out. On a GPU, where the
first call also loads libraries, one epoch goes before it.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ |= {"YOLO_CONFIG_DIR": sys.argv[5], "YOLO_OFFLINE": "true"}

import torch
import torch._dynamo
import ultralytics.utils.torch_utils
from ultralytics import YOLO, settings


def main() -> None:
    """Train, and print one line of JSON."""
    data, folder, device = sys.argv[1], sys.argv[5], sys.argv[8]
    freeze, iterations, threads = map(int, sys.argv[2:5])
    size, batch = map(int, sys.argv[6:8])
    settings.update({"tensorboard": False, "mlflow": False, "raytune": False})
    ultralytics.utils.torch_utils.NUM_THREADS = threads  # by themselves they take one less than there are cores
    torch.set_num_threads(threads)
    count = len(Path(data).with_name("train.txt").read_text().split())
    epochs = max(1, round(iterations / -(-count // batch)))
    seconds = 0.0
    for length in [epochs] if device == "cpu" else [1, epochs]:
        model = YOLO("yolov3-tiny.yaml", verbose=False)
        started = time.perf_counter()
        model.train(
            data=data,
            imgsz=size,
            batch=batch,
            epochs=length,
            freeze=freeze or None,
            device=device,
            workers=threads,
            val=False,
            plots=False,
            save=True,
            project=folder,
            verbose=False,
            amp=device != "cpu",
            pretrained=False,
        )
        seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "images": epochs * count, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
