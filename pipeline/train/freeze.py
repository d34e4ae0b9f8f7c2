"""Which layers stay as they are. Layers are counted as in Darknet's cfg: freeze N freezes layers 0 to N-1."""

from collections.abc import Collection

from pipeline.darknet import DarknetNetwork
from pipeline.errors import refuse

__all__ = ["check_freeze", "freeze_layers"]


def freeze_layers(network: DarknetNetwork, count: int) -> tuple[int, ...]:
    """Freeze the layers below `count`: no gradient, no decay, batch norm in eval. Returns those that have weights."""
    frozen = tuple(index for index in network.spec.weighted_layers if index < count)
    for index in frozen:
        network.weighted(index).freeze()
    return frozen


def check_freeze(network: DarknetNetwork, count: int, trained: Collection[int], where: str, force: bool) -> None:
    """Refuse to freeze layers that were never trained: they would stay random for ever.

    Args:
        trained: indices of the layers that hold trained weights.
        where: what asks for it, for the message.
        force: allow it all the same.
    """
    weighted = network.spec.weighted_layers
    if count > weighted[-1]:
        raise refuse(where, f"freeze {count} leaves no layer to train", f"freeze at most {weighted[-1]}")
    untrained = [str(index) for index in weighted if index < count and index not in trained]
    if untrained and not force:
        first = int(untrained[0])
        names = f"layer {untrained[0]}" if len(untrained) == 1 else f"layers {', '.join(untrained)}"
        raise refuse(
            where,
            f"freeze {count} would freeze {names}, never trained",
            f"freeze at most {first}, or set freeze_untrained: true",
        )
