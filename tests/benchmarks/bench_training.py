"""Images per second of training, against Ultralytics' own trainer on the same set, size, batch and threads, in one run.

    python tests/benchmarks/bench_training.py FACADES [--root bench] [--iterations 300]

Theirs is their yolov3-tiny at its defaults, without validation and plots; ours is yolov3-tiny at its defaults, with one
evaluation at the end. Each runs in a process of its own, one after the other, and seconds are of the whole call:
reading pictures, training, writing weights. Importing is left out of both.
Their trainer gets as many threads as ours; by itself it takes one less than there are cores.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import run_measured, write_result

from pipeline.curating import curate_recipe
from pipeline.progress import Bars
from pipeline.workspace import Workspace

HERE = Path(__file__).resolve().parent
RECIPE = HERE.parents[1] / "datasets" / "facades-arch.yaml"
SIZE, BATCH, FREEZES = 224, 16, (0, 13, 20)

THEIRS = (HERE / "ultralytics_trainer.py").read_text()

OURS = """
import json, sys, time
from pathlib import Path
import torch
import torch._dynamo
from pipeline.experiment import DataSource, Experiment, Stage
from pipeline.interrupt import StopRequest
from pipeline.train.stages import plan_trials
from pipeline.train.sweep import run_trials
from pipeline.workspace import Workspace
data, root, precision, views = Path(sys.argv[1]).parent, *sys.argv[5:8]
freeze, iterations, threads = map(int, sys.argv[2:5])
torch.set_num_threads(threads)
experiment = Experiment(name="speed", size=224, batch=16, burn_in=50, precision=precision,
    views=None if views == "kept" else 0, data={"set": DataSource(path=data)},
    stages=(Stage(name="one", data="set", freeze=(freeze,), iterations=iterations, freeze_untrained=True),))
workspace = Workspace(Path(root))
started = time.perf_counter()
plan = plan_trials(experiment, workspace)
(_, result), = run_trials(experiment, plan, workspace, StopRequest())
seconds = time.perf_counter() - started
print(json.dumps({"seconds": seconds, "images": iterations * 16, "threads": torch.get_num_threads(),
                  "training_seconds": result.seconds, "cache": result.feature_cache}))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("facades", type=Path)
    parser.add_argument("--root", type=Path, default=Path("bench"))
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--theirs", type=int, default=150, help="iterations of Ultralytics' trainer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "training.json")
    options = parser.parse_args()
    workspace = Workspace(options.root)
    with Bars() as bars:
        summary = curate_recipe(RECIPE, options.facades, workspace, bars)
    data = (summary.root / "data.yaml").resolve()
    results: dict[str, dict[str, Any]] = {}
    for freeze in FREEZES[:2]:
        results[f"ultralytics, freeze {freeze}"] = _measure(
            THEIRS, data, freeze, options.theirs, options.threads, str(SIZE), str(BATCH), "cpu"
        )
    for freeze in FREEZES:
        results[f"skylight, freeze {freeze}"] = _measure(
            OURS, data, freeze, options.iterations, options.threads, "auto", "kept"
        )
    for freeze in FREEZES[:2]:
        name = f"skylight in float32 without kept features, freeze {freeze}"
        results[name] = _measure(OURS, data, freeze, options.iterations, options.threads, "float32", "fresh")
    for name, row in results.items():
        print(f"{name:60} {row['images_per_second']:6.1f} images/s")
    ratios = _ratios({name: row["images_per_second"] for name, row in results.items()})
    for name, ratio in ratios.items():
        print(f"{name:60} {ratio:6.2f} times")
    write_result(options.out, sys.argv, {"runs": results, "ratios": ratios, "size": SIZE, "batch": BATCH})


def _measure(code: str, data: Path, freeze: int, iterations: int, threads: int, *more: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as root:
        said = run_measured(code, [data, freeze, iterations, threads, root, *more]).said
    return said | {"images_per_second": said["images"] / said["seconds"]}


def _ratios(speed: dict[str, float]) -> dict[str, float]:
    ours, theirs = "skylight, freeze {}", "ultralytics, freeze {}"
    return {
        "skylight over ultralytics, freeze 0": speed[ours.format(0)] / speed[theirs.format(0)],
        "skylight over ultralytics, freeze 13": speed[ours.format(13)] / speed[theirs.format(13)],
        "skylight, freeze 13 over freeze 0": speed[ours.format(13)] / speed[ours.format(0)],
        "skylight, freeze 20 over freeze 0": speed[ours.format(20)] / speed[ours.format(0)],
    }


if __name__ == "__main__":
    main()
