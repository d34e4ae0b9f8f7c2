"""Types and shapes of every tensor of a model, and whether it is valid, by onnx itself.

onnx does it in C++, where a model that contradicts itself can end the whole process or keep it busy without end: for
files of strangers it runs in a process of its own. As a script this reads a model from standard input and writes the
inferred one to standard output.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["infer"]

_SECONDS = 60
_BYTES = 4 * 2**30


def infer(model: Any, is_isolated: bool) -> tuple[Any, str | None]:
    """The onnx.ModelProto with what could be inferred, and the first line of what onnx has against it, if anything.

    is_isolated: for a model that came from somebody else.
    """
    import onnx

    if not is_isolated:
        return _inferred(model)
    # -P: what lies in the folder that we are called in, or beside this file, is not what is imported.
    command = [sys.executable, "-P", str(Path(__file__).resolve())]
    content = model.SerializeToString()
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return model, f"onnx needs more than {_SECONDS} s to infer its shapes"
    if done.returncode not in (0, 2):
        return model, "onnx does not survive inferring its shapes"
    problem = done.stderr.decode("utf-8", "replace").strip() or None
    return onnx.ModelProto.FromString(done.stdout), problem


def _inferred(model: Any) -> tuple[Any, str | None]:
    import onnx

    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        onnx.checker.check_model(model)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        return model, (str(error).strip().splitlines() or ["no valid graph"])[0]
    except (RuntimeError, ValueError, MemoryError) as error:
        return model, (str(error).strip().splitlines() or [type(error).__name__])[0]
    return model, None


def _main() -> int:
    import resource

    import onnx

    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    found, problem = _inferred(onnx.ModelProto.FromString(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(found.SerializeToString())
    if problem is not None:
        print(problem, file=sys.stderr)
    return 0 if problem is None else 2


if __name__ == "__main__":
    sys.exit(_main())
