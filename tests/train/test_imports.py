"""The training loop runs on a machine that has torch, numpy, OpenCV and pydantic and nothing else of ours."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

ALONE = """
import sys
from importlib.machinery import PathFinder
missing = {missing}
class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in missing else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Without
sys.argv = ["bench_gpu.py", *"--pictures 8 --iterations 2 --batch 2 --size 64 --out".split(), sys.argv[1]]
sys.path.insert(0, {folder!r})
import bench_gpu
bench_gpu.main()
"""
# What the plain install brings besides those four and what they need themselves.
MISSING = {
    *("cleanlab", "duckdb", "faster_coco_eval", "fiftyone", "imagehash", "matplotlib", "mlflow", "onnx", "onnxruntime"),
    *("PIL", "yaml", "ray", "rich", "safetensors", "skimage", "tensorboard", "torchvision", "typer", "ultralytics"),
    *("urllib3", "pandas", "scipy", "tqdm"),
}


def test_gpu_benchmark_runs_without_our_other_libraries(tmp_path: Path) -> None:
    code = ALONE.format(missing=MISSING, folder=str(BENCHMARKS))
    command = [sys.executable, "-c", code, str(tmp_path / "gpu.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "freeze 20" in (tmp_path / "gpu.json").read_text()
