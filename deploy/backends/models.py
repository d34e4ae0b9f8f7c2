"""Which model of a bundle runs at a size, and in which precision. Loads nothing."""

from typing import TYPE_CHECKING, Tuple

from deploy.bundle import Bundle
from deploy.errors import refuse
from deploy.manifest import Model

if TYPE_CHECKING:
    from deploy.backends.choose import Choice


def choose_model(
    bundle: Bundle, size: Tuple[int, int], choice: "Choice", takes_types_from_file: bool, has_half: bool = True
) -> Tuple[Model, str]:
    """The model, and the precision that it runs in.

    size: (width, height) of the input. takes_types_from_file: whether only a file in half precision gives half
    precision; TensorRT until 10 makes it of the float32 file, and leaves the decode in float32. has_half: whether half
    precision is computed as such: a CPU turns it back into float32, which costs time and gains nothing.

    Raises UserError where the bundle has no such model.
    """
    models = [model for model in bundle.models if (model.width, model.height) == size]
    if choice.model is not None:
        models = [model for model in models if model.file == choice.model]
    if not models:
        found = "holds no {} at {}x{}".format(choice.model or "model", *size)
        names = ", ".join("{} ({}x{})".format(model.file, model.width, model.height) for model in bundle.models)
        raise refuse(bundle.root, found, "it has " + names)
    by_precision = {model.precision: model for model in reversed(models)}
    wanted = choice.precision or _fastest(bundle, has_half)
    if takes_types_from_file:
        if choice.precision is not None and choice.precision not in by_precision:
            found = "holds no {} model at {}x{}".format(choice.precision, *size)
            raise refuse(bundle.root, found, "export it with that precision, or ask for " + ", ".join(by_precision))
        model = by_precision.get(wanted, models[0]) if choice.model is None else models[0]
        return model, model.precision
    model = by_precision.get("fp32", models[0])
    return model, wanted if model.precision == "fp32" else model.precision


def _fastest(bundle: Bundle, has_half: bool) -> str:
    return "fp16" if has_half and "fp16" in bundle.board.get("precisions", ()) else "fp32"
