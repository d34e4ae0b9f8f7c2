"""Which layers stay as they are: by a count, a list, or a rule. Layers are counted as the detector counts them."""

import hashlib
from collections.abc import Callable, Collection

from torch import nn

from pipeline.errors import refuse
from pipeline.experiment import Freeze, FreezeRule
from pipeline.networks.detector import Detector, Layer

__all__ = ["check_freeze", "freeze_label", "frozen_layers"]

_LONGEST_LABEL = 40


def frozen_layers(detector: Detector, freeze: Freeze | Callable[[Layer], bool]) -> tuple[int, ...]:
    """Numbers of the layers with weights that `freeze` means: a count, a list, a rule, or a function of the layer.

    >>> frozen_layers(detector, 13)  # doctest: +SKIP
    (0, 2, 4, 6, 8, 10, 12)

    Raises:
        UserError: a list that names what is no layer, or one without weights.
    """
    weighted = [layer for layer in detector.network_layers if layer.has_weights]
    if isinstance(freeze, int):
        return tuple(layer.index for layer in weighted if layer.index < freeze)
    if isinstance(freeze, FreezeRule):
        return tuple(layer.index for layer in weighted if _fits(layer, freeze))
    if callable(freeze):
        return tuple(layer.index for layer in weighted if freeze(layer))
    known = [layer.index for layer in weighted]
    wrong = sorted(set(freeze) - set(known))
    if wrong:
        raise refuse(f"freeze {list(freeze)}", f"{wrong[0]}", f"layers with weights are {', '.join(map(str, known))}")
    return tuple(sorted(freeze))


def freeze_label(freeze: Freeze) -> str:
    """A short name for folders and tables: `13`, `0-4+8`, `rule-below13-kernel3`."""
    if isinstance(freeze, int):
        return str(freeze)
    if isinstance(freeze, FreezeRule):
        given = freeze.model_dump(exclude_none=True)
        return "rule-" + "-".join(f"{key}{value:d}" for key, value in given.items())
    if not freeze:
        return "none"
    parts: list[list[int]] = []
    for index in sorted(freeze):
        if parts and index == parts[-1][-1] + 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    ranges = "+".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
    if len(ranges) <= _LONGEST_LABEL:
        return f"list{ranges}"
    return f"list{hashlib.sha256(ranges.encode()).hexdigest()[:12]}"


def check_freeze(detector: Detector, freeze: Freeze, trained: Collection[int], where: str, force: bool) -> None:
    """Refuse to freeze layers that were never trained: they would stay random for ever.

    Args:
        trained: numbers of the layers that hold trained weights.
        where: what asks for it, for the message.
        force: allow it all the same.
    """
    weighted, frozen = detector.weighted_layers, frozen_layers(detector, freeze)
    label = freeze_label(freeze)
    if set(frozen) == set(weighted):
        raise refuse(where, f"freeze {label} leaves no layer to train", f"freeze at most {weighted[-1]}")
    untrained = [str(index) for index in frozen if index not in trained]
    if untrained and not force:
        names = f"layer {untrained[0]}" if len(untrained) == 1 else f"layers {', '.join(untrained)}"
        raise refuse(
            where,
            f"freeze {label} would freeze {names}, never trained",
            f"freeze at most {untrained[0]}, or set freeze_untrained: true",
        )


def _fits(layer: Layer, rule: FreezeRule) -> bool:
    modules = list(layer.module.modules())
    kernels = [p.shape[-1] for p in layer.module.parameters() if p.dim() == 4]
    has_norm = any("norm" in type(module).__name__.lower() or isinstance(module, nn.BatchNorm2d) for module in modules)
    return (
        (rule.below is None or layer.index < rule.below)
        and (rule.kernel is None or rule.kernel in kernels)
        and (rule.batch_norm is None or rule.batch_norm == has_norm)
    )
