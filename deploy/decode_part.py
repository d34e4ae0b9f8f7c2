"""Which part of a network makes boxes of its raw heads: it stays in float32 where the rest is in half precision.

Knows neither ONNX nor TensorRT, whose nodes and layers it is asked about.
"""

from typing import List, NamedTuple, Sequence, Set


class Step(NamedTuple):
    """A node of any graph: the tensors it reads and makes, and whether it applies learned weights."""

    inputs: Sequence[str]
    outputs: Sequence[str]
    is_weighted: bool


def is_decode(steps: Sequence[Step]) -> List[bool]:
    """For every step, whether no learned weights are applied after it or in it: what makes boxes of the raw heads.

    Boxes are pixels: half precision has a spacing of 0.25 from 256 on, so this part stays in float32.
    """
    before: Set[str] = set()  # tensors that some weighted step is made of
    result = []
    for step in reversed(steps):
        is_trunk = step.is_weighted or any(name in before for name in step.outputs)
        if is_trunk:
            before.update(step.inputs)
        result.append(not is_trunk)
    return result[::-1]
