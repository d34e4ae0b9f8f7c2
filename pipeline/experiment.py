"""The experiment file: what to curate, train and export. Read and checked here; nothing of it is carried out here."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.settings import read_yaml

__all__ = [
    "PARITY_PICTURES",
    "Augment",
    "DataSource",
    "Experiment",
    "ExportChoice",
    "Freeze",
    "FreezeRule",
    "Stage",
    "Start",
    "StopEarly",
    "read_experiment",
]

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSource(_Model):
    """A curated set: made from `source` by `recipe`, or one that lies at `path` already. Paths count from the file."""

    recipe: Path | None = None
    source: Path | None = None
    path: Path | None = None

    @model_validator(mode="after")
    def _has_one_origin(self) -> "DataSource":
        if (self.recipe is None) == (self.path is None):
            raise ValueError("give either recipe (with source), or path of a curated set")
        if self.path is not None and self.source is not None:
            raise ValueError("source goes with recipe; with path it would be ignored")
        return self


class Augment(_Model):
    """Darknet's augmentation; 0 or 1 switches a part off.

    Attributes:
        jitter: each side of the crop moves by up to this part of the picture, in or out.
        flip: mirror every second picture.
        hue: shift by up to this part of the circle. saturation, exposure: scaled by up to this factor or its inverse.
        mosaic: share of the pictures that are put together from four.
    """

    jitter: Annotated[float, Field(ge=0, lt=0.5)] = 0.3
    flip: bool = True
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    saturation: Annotated[float, Field(ge=1, le=10)] = 1.5
    exposure: Annotated[float, Field(ge=1, le=10)] = 1.5
    mosaic: Annotated[float, Field(ge=0, le=1)] = 0.0


class FreezeRule(_Model):
    """Freeze every layer with weights of which all that is given here holds.

    Attributes:
        below: its number is less. kernel: it is a convolution of this size. batch_norm: it has one, or has none.
    """

    below: Annotated[int, Field(ge=1)] | None = None
    kernel: Annotated[int, Field(ge=1)] | None = None
    batch_norm: bool | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "FreezeRule":
        if self.below is None and self.kernel is None and self.batch_norm is None:
            raise ValueError("give at least one of below, kernel, batch_norm")
        return self


# A count N freezes layers 0 to N-1; a list names the layers; a rule describes them.
Freeze = Annotated[int, Field(ge=0)] | tuple[Annotated[int, Field(ge=0)], ...] | FreezeRule


class StopEarly(_Model):
    """End a trial when `patience` evaluations in a row did not better the best one by more than `min_delta`."""

    patience: Annotated[int, Field(ge=1)]
    min_delta: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Start(_Model):
    """Where the weights of a trial come from.

    Attributes:
        name: for folders and tables.
        stage: an earlier stage, whose best weights are taken; `trial` names one of its trials if it has several.
        weights: a file: Darknet .weights, for other families .safetensors, for Ultralytics also its .pt.
        known: published weights by name, as `skylight weights` lists them. With none, the network starts at random.
        layers: take only the layers before this one (15 is `yolov3-tiny.conv.15`); the others start at random.
        freeze: freeze counts for this start, instead of the stage's.
    """

    name: _Name
    stage: _Name | None = None
    trial: str | None = None
    weights: Path | None = None
    known: str | None = None
    layers: Annotated[int, Field(ge=1)] | None = None
    freeze: tuple[Freeze, ...] | None = None

    @model_validator(mode="after")
    def _has_one_origin(self) -> "Start":
        given = [key for key in ("stage", "weights", "known") if getattr(self, key) is not None]
        if len(given) > 1:
            raise ValueError(f"give {' or '.join(given)}, not both")
        if self.trial is not None and self.stage is None:
            raise ValueError("trial needs stage")
        return self


class Stage(_Model):
    """Train on one set from each start at each freeze count and seed.

    Attributes:
        iterations: batches to train on.
        evaluate_at: iterations at which AP is measured on the val split; the last iteration always is.
        evaluate_every: the same after every so many iterations.
        learning_rate_steps: from an iteration on, the factor that the rate is multiplied by (Darknet's steps, scales).
        seeds: instead of the experiment's.
        checkpoint_every: iterations after which weights are kept, besides the best and the last.
        freeze_untrained: allow freezing layers that were never trained.
    """

    name: _Name
    data: _Name
    starts: tuple[Start, ...] = (Start(name="scratch"),)
    freeze: tuple[Freeze, ...] = (0,)
    iterations: Annotated[int, Field(ge=1)]
    evaluate_at: tuple[Annotated[int, Field(ge=1)], ...] = ()
    evaluate_every: Annotated[int, Field(ge=1)] | None = None
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    learning_rate_steps: dict[Annotated[int, Field(ge=1)], Annotated[float, Field(gt=0, allow_inf_nan=False)]] = {}
    seeds: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    stop_early: StopEarly | None = None
    checkpoint_every: Annotated[int, Field(ge=1)] | None = None
    freeze_untrained: bool = False

    @property
    def evaluation_points(self) -> tuple[int, ...]:
        """Iterations after which is measured, in order."""
        every = range(self.evaluate_every, self.iterations, self.evaluate_every) if self.evaluate_every else ()
        return tuple(sorted({*self.evaluate_at, *every, self.iterations}))

    @model_validator(mode="before")
    @classmethod
    def _short_starts(cls, value: Any) -> Any:
        """Let a start be a word: `scratch`, or the name of an earlier stage."""
        if isinstance(value, dict) and isinstance(value.get("starts"), list):
            starts = [
                {"name": s} if s == "scratch" else {"name": s, "stage": s} if isinstance(s, str) else s
                for s in value["starts"]
            ]
            return {**value, "starts": starts}
        return value

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Stage":
        of_starts = ((f"freeze of {start.name}", start.freeze) for start in self.starts)
        for what, entries in (("freeze", self.freeze), *of_starts, ("seeds", self.seeds)):
            if entries is not None and (not entries or len(set(entries)) < len(entries)):
                raise ValueError(f"{what} is {list(entries)}; give at least one, each once")
        names = [start.name for start in self.starts]
        if len(set(names)) < len(names) or not names:
            raise ValueError(f"starts need different names, at least one; found {', '.join(names) or 'none'}")
        points = self.evaluation_points
        if points[-1] > self.iterations:
            raise ValueError(f"evaluate_at goes beyond iterations={self.iterations}")
        if self.stop_early and len(points) <= self.stop_early.patience + 1:
            raise ValueError(
                f"stop_early.patience={self.stop_early.patience} can never end a trial of {len(points)} evaluations; "
                "set evaluate_every, or a smaller patience"
            )
        return self


# Of val, for the parity gate: each goes through everyone who is asked, YOLOv3 on two cores in seconds.
PARITY_PICTURES = 256


class ExportChoice(_Model):
    """What becomes the bundle: the trial of `stage` with the best AP on val, or the `trial` named.

    Attributes:
        board: a shipped one, or the path of a board's file.
        precisions: of the ONNX files; an engine of TensorRT 8 to 10 is built in half precision from fp32, TensorRT-RTX
            needs fp16.
        sizes: of the input besides that of training, pixels, which the drone may fall back to.
        calibration: how many pictures of train go along, for INT8 on a board that has it.
        parity_pictures: of val, that everyone is compared on; 0 for all of them.
    """

    stage: _Name
    trial: str | None = None
    name: _Name
    version: _Name = "1"
    score_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.25
    nms_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.45
    board: str = "workstation"
    precisions: Annotated[tuple[Literal["fp32", "fp16"], ...], Field(min_length=1)] = ("fp32",)
    sizes: tuple[Annotated[int, Field(ge=32, multiple_of=32)], ...] = ()
    calibration: Annotated[int, Field(ge=0, le=500)] = 0
    parity_pictures: Annotated[int, Field(ge=0)] = PARITY_PICTURES

    @field_validator("precisions")
    @classmethod
    def _begin_with_float32(cls, precisions: tuple[str, ...]) -> tuple[str, ...]:
        if precisions[0] != "fp32" or len(set(precisions)) != len(precisions):
            raise ValueError("begins with fp32, and names each once")
        return precisions


class Experiment(_Model):
    """One file, `*.yaml`.

    Attributes:
        network: a shipped Darknet cfg by name, the path of a .cfg, a model of Ultralytics (yolov3-tinyu, yolo11n,
            yolo26n, or the path of a .pt), or fasterrcnn_resnet50_fpn.
        size: width and height of the input, in pixels.
        subdivisions: a batch is run in as many parts, one after the other, where memory is short; batch norm sees a
            part at a time, as in Darknet. By default one, and more where the memory turns out to be too little.
        views: augmented views of each picture that are kept where layers are frozen; by default enough for the number
            of iterations. 0 makes a new one each time, and nothing can be kept.
        feature_cache_gib: what the features of frozen layers may take; by default a share of what is free.
        ema: evaluate and keep the moving average of the weights with this decay.
        best_by: the figure that decides which weights are the best.
    """

    name: _Name
    description: str = ""
    network: str = "yolov3-tiny"
    size: Annotated[int, Field(ge=32, le=2048)] = 416
    resize: Literal["stretch", "letterbox"] = "stretch"
    batch: Annotated[int, Field(ge=1)] = 16
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.001
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    decay: Annotated[float, Field(ge=0)] = 0.0005
    burn_in: Annotated[int, Field(ge=0)] = 0
    batch_norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.1
    loss: Literal["alexeyab", "original"] = "alexeyab"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    subdivisions: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    views: Annotated[int, Field(ge=0)] | None = None
    feature_cache_gib: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    best_by: Literal["ap50", "coco_map", "f1"] = "ap50"
    augment: Augment = Augment()
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    data: dict[str, DataSource]
    stages: tuple[Stage, ...]
    export: ExportChoice | None = None

    @model_validator(mode="after")
    def _refers_to_what_exists(self) -> "Experiment":
        if self.size % 32:
            raise ValueError(
                f"size={self.size} is no multiple of 32; the nearest is {max(32, round(self.size / 32) * 32)}"
            )
        if self.subdivisions != "auto" and self.batch % self.subdivisions:
            raise ValueError(f"batch={self.batch} cannot be cut into subdivisions={self.subdivisions} equal parts")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds is {list(self.seeds)}; give at least one, each once")
        if not self.stages:
            raise ValueError("stages is empty; give at least one")
        earlier: list[str] = []
        for stage in self.stages:
            if stage.data not in self.data:
                raise ValueError(f"stage {stage.name}: data={stage.data} is unknown; allowed: {', '.join(self.data)}")
            for start in stage.starts:
                if start.stage is not None and start.stage not in earlier:
                    allowed = ", ".join(["scratch", *earlier])
                    raise ValueError(f"stage {stage.name}: start {start.stage} is no earlier stage; allowed: {allowed}")
            if stage.name in earlier:
                raise ValueError(f"two stages are named {stage.name}")
            earlier.append(stage.name)
        if self.export and self.export.stage not in earlier:
            raise ValueError(f"export: stage {self.export.stage} is unknown; allowed: {', '.join(earlier)}")
        return self


def read_experiment(path: Path) -> Experiment:
    """Read and check an experiment file; its relative paths are taken from the file's own folder.

    Raises:
        UserError: one line that names file, key, the value found and what is allowed.
    """
    experiment = read_yaml(path, Experiment)
    base = path.resolve().parent

    def from_file(entry: Path | None) -> Path | None:
        return None if entry is None else base / entry.expanduser()

    data = {
        name: source.model_copy(
            update={key: from_file(getattr(source, key)) for key in ("recipe", "source", "path")},
        )
        for name, source in experiment.data.items()
    }
    stages = tuple(
        stage.model_copy(
            update={"starts": tuple(s.model_copy(update={"weights": from_file(s.weights)}) for s in stage.starts)}
        )
        for stage in experiment.stages
    )
    is_file = experiment.network.endswith((".cfg", ".pt"))
    network = str(base / experiment.network) if is_file else experiment.network
    return experiment.model_copy(update={"data": data, "stages": stages, "network": network})
