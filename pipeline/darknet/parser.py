"""What each section of a cfg means: Darknet's parser.c, from options to layers and the shapes that follow.

Knows the arithmetic of sizes and nothing of tensors.
"""

from collections.abc import Callable, Sequence

from pipeline.darknet.activations import ACTIVATIONS
from pipeline.darknet.cfg import Cfg, Section
from pipeline.darknet.layers import (
    AveragePool,
    Connected,
    Convolutional,
    Dropout,
    LayerSpec,
    MaxPool,
    NetworkSpec,
    Route,
    Shape,
    Shortcut,
    Softmax,
    Upsample,
    Yolo,
)
from pipeline.darknet.yolo import YoloHead

__all__ = ["describe"]

# Options that only concern training, drawing or memory: they are read and have no effect on the forward pass.
_NET_OPTIONS = (
    *("batch", "subdivisions", "width", "height", "channels", "inputs", "time_steps", "track", "augment_speed"),
    *("learning_rate", "learning_rate_min", "momentum", "decay", "burn_in", "power", "policy", "steps", "scales"),
    *("seq_scales", "step", "scale", "gamma", "max_batches", "num_cycles", "sgdr_cycle", "sgdr_mult"),
    *("batches_per_cycle", "adam", "B1", "B2", "eps", "max_crop", "min_crop", "center", "crop", "flip", "blur"),
    *("gaussian_noise", "mixup", "cutmix", "mosaic", "mosaic_bound", "letter_box", "angle", "aspect", "saturation"),
    *("exposure", "hue", "random", "notruth", "hierarchy", "sequential_subdivisions", "init_sequential_subdivisions"),
    *("try_fix_nan", "loss_scale", "dynamic_minibatch", "optimized_memory", "workspace_size_limit_MB"),
    *("label_smooth_eps", "resize_step", "clip", "num_boxes", "max_chart_loss", "show_receptive_field"),
    *("adversarial_lr", "attention", "unsupervised", "contrastive", "contrastive_jit_flip", "contrastive_color"),
    *("ema_alpha", "equidistant_point", "stopbackward", "badlabels_rejection_percentage"),
    *("num_sigmas_reject_badlabels", "weights_reject_freq", "weights_pruning", "max_delta", "letterbox"),
    *("use_cuda_graph", "gpu_index", "b1", "b2"),
)
_ANY_LAYER = (
    *("stopbackward", "onlyforward", "dontsave", "learning_rate", "dont_update", "burnin_update", "train_only_bn"),
    *("clip", "smooth", "jitter"),
)
_YOLO_OPTIONS = (
    *("mask", "anchors", "classes", "num", "max", "ignore_thresh", "truth_thresh", "iou_thresh", "scale_x_y"),
    *("iou_normalizer", "obj_normalizer", "cls_normalizer", "delta_normalizer", "iou_loss", "iou_thresh_kind"),
    *("label_smooth_eps", "new_coords", "focal_loss", "objectness_smooth", "max_delta", "counters_per_class"),
    *("nms_kind", "beta_nms", "jitter", "resize", "random", "map", "show_details", "track_history_size"),
    *("sim_thresh", "dets_for_track", "dets_for_show", "track_ciou_norm", "embedding_layer"),
)
_CHANGES_LOADING = ("dontload", "dontloadscales", "flipped")


def describe(cfg: Cfg) -> NetworkSpec:
    """Read every section of `cfg`.

    Raises:
        UserError: an unsupported section or option, a value out of range, or shapes that do not fit; the message
            names file, line, section and what would be accepted.
    """
    net = cfg.net
    net.allow(_NET_OPTIONS)
    start = Shape(net.integer("channels", 3, 1), net.integer("height", at_least=1), net.integer("width", at_least=1))
    layers: list[LayerSpec] = []
    shapes: list[Shape] = []
    for section in cfg.layers:
        read = _READERS.get(section.kind)
        if read is None:
            raise section.error("is not supported", f"supported sections: {', '.join(sorted(_READERS))}")
        layer, shape = read(section, start if not shapes else shapes[-1], shapes, start)
        if min(shape.channels, shape.height, shape.width) < 1:
            raise section.error(f"layer {len(layers)} would have no pixels left", "enlarge the network's width, height")
        layers.append(layer)
        shapes.append(shape)
    if any(isinstance(layer, Yolo) for layer in layers):
        _check_input_size(net)
    return NetworkSpec(start, tuple(layers), tuple(shapes))


def _check_input_size(net: Section) -> None:
    """The coarsest grid of a detector has cells of 32 pixels, and Darknet takes no part of one."""
    for key in ("width", "height"):
        size = net.integer(key)
        if size % 32:
            nearest = max(32, round(size / 32) * 32)
            raise net.error(f"{key}={size}", f"{key} must be a multiple of 32, for example {nearest}", key)


def _convolutional(section: Section, before: Shape, _: Sequence[Shape], __: Shape) -> tuple[LayerSpec, Shape]:
    section.allow(
        (
            *("filters", "size", "stride", "stride_x", "stride_y", "pad", "padding", "dilation", "groups"),
            *("activation", "batch_normalize", *_ANY_LAYER, "grad_centr", "counters_per_class"),
        ),
        neutral=(
            *("binary", "xnor", "bin_output", "use_bin_output", "antialiasing", "assisted_excitation", "deform"),
            *("share_index", "rotate", "sway", "stretch", "stretch_sway", "coordconv", "reverse", "dot"),
            *_CHANGES_LOADING,
        ),
    )
    size = section.integer("size", 1, 1)
    stride = section.integer("stride", 1, 1)
    strides = section.integer("stride_y", stride, 1), section.integer("stride_x", stride, 1)
    dilation = 1 if size == 1 else section.integer("dilation", 1, 1)
    padding = size // 2 if section.integer("pad", 0) else section.integer("padding", 0, 0)
    groups = section.integer("groups", 1, 1)
    filters = section.integer("filters", 1, 1)
    if before.channels % groups or filters % groups:
        raise section.error(
            f"groups={groups}", f"must divide {before.channels} channels and {filters} filters", "groups"
        )
    if dilation > 1 and 2 * padding != size - 1:
        # Darknet counts the output as if dilation were 1; with other paddings the two disagree.
        raise section.error(f"dilation={dilation} with padding {padding}", "use pad=1 and an odd size", "dilation")
    normalize = section.integer("batch_normalize", 0)
    if normalize not in (0, 1):
        raise section.error(f"batch_normalize={normalize}", "batch_normalize takes 0 or 1", "batch_normalize")
    layer = Convolutional(
        filters, size, strides, padding * dilation, dilation, groups, bool(normalize), _activation(section, "logistic")
    )
    height = (before.height + 2 * padding - size) // strides[0] + 1
    width = (before.width + 2 * padding - size) // strides[1] + 1
    return layer, Shape(filters, height, width)


def _maxpool(section: Section, before: Shape, _: Sequence[Shape], __: Shape) -> tuple[LayerSpec, Shape]:
    section.allow(
        ("size", "stride", "stride_x", "stride_y", "padding", *_ANY_LAYER),
        neutral=("maxpool_depth", "out_channels", "antialiasing"),
    )
    stride = section.integer("stride", 1, 1)
    strides = section.integer("stride_y", stride, 1), section.integer("stride_x", stride, 1)
    size = section.integer("size", stride, 1)
    padding = section.integer("padding", size - 1, 0)
    if padding > size * 2 - 2:
        raise section.error(f"padding={padding}", f"at most {size * 2 - 2} fits size {size}", "padding")
    height = (before.height + padding - size) // strides[0] + 1
    width = (before.width + padding - size) // strides[1] + 1
    return MaxPool(size, strides, padding), Shape(before.channels, height, width)


def _sources(section: Section, key: str, shapes: Sequence[Shape]) -> tuple[int, ...]:
    """Turn indices, where negative ones count back from this layer, into layer indices."""
    here = len(shapes)
    found = tuple(index + here if index < 0 else index for index in section.integers(key))
    if not found or not all(0 <= index < here for index in found):
        raise section.error(
            f"{key}={section.text(key)} in layer {here}", f"takes layers before it: 0 to {here - 1}, or negative", key
        )
    return found


def _route(section: Section, _: Shape, shapes: Sequence[Shape], __: Shape) -> tuple[LayerSpec, Shape]:
    if section.kind == "route_lhalf":  # the ScaledYOLOv4 fork's name for groups=2, group_id=0
        section.allow(("layers", *_ANY_LAYER))
        groups, group = 2, 0
    else:
        section.allow(("layers", "groups", "group_id", *_ANY_LAYER))
        groups, group = section.integer("groups", 1, 1), section.integer("group_id", 0, 0)
    sources = _sources(section, "layers", shapes)
    parts = [shapes[index] for index in sources]
    if group >= groups or any(part.channels % groups for part in parts):
        raise section.error(f"group_id={group} of groups={groups}", "groups must divide the channels, group_id be less")
    if len({(part.height, part.width) for part in parts}) > 1:
        sizes = ", ".join(f"layer {i} {shapes[i].width}x{shapes[i].height}" for i in sources)
        raise section.error(f"joins different sizes: {sizes}", "route layers of one size", "layers")
    channels = sum(part.channels for part in parts) // groups
    return Route(sources, groups, group), Shape(channels, parts[0].height, parts[0].width)


def _shortcut(section: Section, before: Shape, shapes: Sequence[Shape], _: Shape) -> tuple[LayerSpec, Shape]:
    section.allow(("from", "activation", "weights_type", "weights_normalization", *_ANY_LAYER))
    if section.text("weights_type", "none") != "none":
        kind = section.text("weights_type")
        raise section.error(f"weights_type={kind} is not supported", "accepted: none", "weights_type")
    sources = _sources(section, "from", shapes)
    for index in sources:
        other = shapes[index]
        # blas.c shortcut_cpu asserts that width and height are apart by one and the same whole factor.
        steps = {(one // two, two // one) for one, two in ((other.width, before.width), (other.height, before.height))}
        if len(steps) > 1:
            sizes = f"layer {index} {other.width}x{other.height} to {before.width}x{before.height}"
            raise section.error(f"adds {sizes}", "width and height must differ by one factor", "from")
    return Shortcut(sources, _activation(section, "linear")), before


def _upsample(section: Section, before: Shape, _: Sequence[Shape], __: Shape) -> tuple[LayerSpec, Shape]:
    section.allow(("stride", "scale", *_ANY_LAYER))
    stride = section.integer("stride", 2, 1)
    return (
        Upsample(stride, section.number("scale", 1.0)),
        Shape(before.channels, before.height * stride, before.width * stride),
    )


def _avgpool(section: Section, before: Shape, _: Sequence[Shape], __: Shape) -> tuple[LayerSpec, Shape]:
    section.allow(_ANY_LAYER)
    return AveragePool(), Shape(before.channels, 1, 1)


def _dropout(section: Section, before: Shape, _: Sequence[Shape], __: Shape) -> tuple[LayerSpec, Shape]:
    section.allow(("probability", *_ANY_LAYER), neutral=("dropblock", "dropblock_size_rel", "dropblock_size_abs"))
    probability = section.number("probability", 0.2, 0.0)
    if probability >= 1:
        raise section.error(f"probability={probability}", "takes a number from 0 to below 1", "probability")
    return Dropout(probability), before


def _softmax(section: Section, before: Shape, _: Sequence[Shape], __: Shape) -> tuple[LayerSpec, Shape]:
    section.allow(("groups", "temperature", "noloss", *_ANY_LAYER), neutral=("spatial",))
    groups = section.integer("groups", 1, 1)
    flat = before.channels * before.height * before.width
    if flat % groups:
        raise section.error(f"groups={groups}", f"must divide the {flat} inputs", "groups")
    return Softmax(groups, section.number("temperature", 1.0)), Shape(flat, 1, 1)


def _connected(section: Section, before: Shape, _: Sequence[Shape], __: Shape) -> tuple[LayerSpec, Shape]:
    section.allow(("output", "activation", "batch_normalize", *_ANY_LAYER), neutral=_CHANGES_LOADING)
    outputs = section.integer("output", 1, 1)
    inputs = before.channels * before.height * before.width
    normalize = bool(section.integer("batch_normalize", 0))
    return Connected(inputs, outputs, normalize, _activation(section, "logistic")), Shape(outputs, 1, 1)


def _yolo(section: Section, before: Shape, _: Sequence[Shape], start: Shape) -> tuple[LayerSpec, Shape]:
    section.allow((*_YOLO_OPTIONS, *_ANY_LAYER))
    pairs = section.numbers("anchors")
    count = section.integer("num", len(pairs) // 2, 1)
    if len(pairs) != 2 * count:
        raise section.error(f"{len(pairs)} anchor values for num={count}", f"give {2 * count} values", "anchors")
    mask = section.integers("mask", range(count))
    if not all(0 <= index < count for index in mask):
        raise section.error(f"mask={section.text('mask')}", f"takes anchor numbers from 0 to {count - 1}", "mask")
    classes = section.integer("classes", 20, 1)
    if before.channels != len(mask) * (5 + classes):
        raise section.error(
            f"{len(mask)} masks and {classes} classes need filters={len(mask) * (5 + classes)} in the layer before, "
            f"found {before.channels}",
            "change filters, classes or mask",
            "classes",
        )
    iou_loss = section.text("iou_loss", "mse")
    if iou_loss not in ("mse", "iou", "giou", "diou", "ciou"):
        raise section.error(f"iou_loss={iou_loss}", "takes mse, iou, giou, diou or ciou", "iou_loss")
    head = YoloHead(
        anchors=tuple(zip(pairs[::2], pairs[1::2], strict=True)),
        mask=mask,
        classes=classes,
        network_width=start.width,
        network_height=start.height,
        ignore_thresh=section.number("ignore_thresh", 0.5),
        truth_thresh=section.number("truth_thresh", 1.0),
        scale_x_y=section.number("scale_x_y", 1.0),
        iou_normalizer=section.number("iou_normalizer", 0.75),
        obj_normalizer=section.number("obj_normalizer", 1.0),
        cls_normalizer=section.number("cls_normalizer", 1.0),
        iou_loss=iou_loss,
        iou_thresh=section.number("iou_thresh", 1.0),
        label_smooth_eps=section.number("label_smooth_eps", 0.0),
        new_coords=bool(section.integer("new_coords", 0)),
        focal_loss=bool(section.integer("focal_loss", 0)),
        objectness_smooth=bool(section.integer("objectness_smooth", 0)),
        max_delta=section.number("max_delta", 3.4e38),
        has_class_weights="counters_per_class" in section.options,
        where=f"{section.path}:{section.line}: [yolo]",
    )
    return Yolo(head), before


_Reader = Callable[[Section, Shape, Sequence[Shape], Shape], tuple[LayerSpec, Shape]]
_READERS: dict[str, _Reader] = {
    "convolutional": _convolutional,
    "conv": _convolutional,
    "maxpool": _maxpool,
    "max": _maxpool,
    "route": _route,
    "route_lhalf": _route,
    "shortcut": _shortcut,
    "upsample": _upsample,
    "avgpool": _avgpool,
    "avg": _avgpool,
    "dropout": _dropout,
    "softmax": _softmax,
    "soft": _softmax,
    "connected": _connected,
    "conn": _connected,
    "yolo": _yolo,
}


def _activation(section: Section, default: str) -> str:
    name = section.text("activation", default)
    if name not in ACTIVATIONS:
        raise section.error(f"activation={name}", f"takes {', '.join(ACTIVATIONS)}", "activation")
    return name
