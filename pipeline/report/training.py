"""The sections of the page about training: AP over iterations and frozen layers, layer differences, learning curves."""

import statistics
from collections.abc import Callable, Mapping, Sequence

from pipeline.report.blocks import Block, Line, Plot, Section, Table, Text
from pipeline.report.difference import figure_text
from pipeline.report.evidence import Evidence, FoundStage
from pipeline.report.published import published_tables
from pipeline.report.scores import difference_curves, part_of
from pipeline.report.table import Arm, spread
from pipeline.train.trial import Evaluation

__all__ = ["curves_section", "difference_section", "freezing_section", "sweep_section"]

_Columns = Sequence[Sequence[float]]  # of every x the values of the seeds


def sweep_section(evidence: Evidence) -> Section:
    """AP over iterations for every start and freeze count (Figure 4), and the same as tables (I to III)."""
    blocks: list[Block] = []
    for stage in reversed(evidence.stages):
        blocks.append(_ap_plot(stage))
        blocks += _ap_tables(stage)
    blocks.append(published_tables(_conditions(evidence)))
    return Section("sweep", "AP over iterations", tuple(blocks))


def freezing_section(evidence: Evidence) -> Section:
    """Best AP over the number of frozen layers; freezes that are lists or rules are no number and are left out."""
    blocks = [plot for stage in reversed(evidence.stages) for plot in _freezing_plot(stage)]
    missing = () if blocks else ("No stage has two freeze counts: name some under freeze in the experiment.",)
    return Section("freezing", "AP over frozen layers", tuple(blocks), missing)


def difference_section(evidence: Evidence) -> Section:
    """How far training moved each convolution, from scores.json."""
    if evidence.scores is None:
        told = f"{evidence.command('score')} measures how far training moved each layer, and adds it here."
        return Section("differences", "Layer differences", missing=(told,))
    blocks: list[Block] = [
        Text("|1 - cos| between a convolution's weights before and after training: 0 is unmoved, 1 is a right angle.")
    ]
    part = part_of(evidence.scores, None)
    has_null = False
    for stage in reversed(evidence.scores.stages):
        raw, corrected = difference_curves(evidence.scores, stage, part, False)
        for curves, what, title in ((raw, "raw", "layer difference"), (corrected, "null", "times the null task's")):
            plot = _difference_plot(curves, f"{what}-{stage}", f"{title}, stage {stage}", _layers(evidence, stage))
            if plot is not None:
                blocks += [plot, _difference_table(curves, plot.title)]
                has_null = has_null or what == "null"
    if len(blocks) == 1:
        told = "No finished trial started from weights: only then is there a difference to a start."
        return Section("differences", "Layer differences", missing=(told,))
    told = f"No null task: {evidence.command('score')} trains it, and says how much would have moved anyway."
    return Section("differences", "Layer differences", tuple(blocks), () if has_null else (told,))


def curves_section(evidence: Evidence) -> Section:
    """Loss on train and val over iterations with the diagnosis of every start and freeze count."""
    blocks: list[Block] = []
    for stage in reversed(evidence.stages):
        for index, (key, arms) in enumerate(stage.groups.items()):
            name = f"{stage.stage.name}: {key[0]}, freeze {key[1]}"
            blocks.append(_loss_plot(f"loss-{stage.stage.name}-{index}", name, arms))
        blocks.append(_diagnoses(stage))
    return Section("curves", "Learning curves", tuple(blocks))


def _conditions(evidence: Evidence) -> str:
    experiment, stage = evidence.experiment, evidence.target
    seeds = len({arm.seed for arm in stage.arms})
    images = evidence.sets.get(stage.stage.data, (None, None))[1]
    pictures = f"{images['splits']['train']['images']} training pictures, " if images else ""
    return (
        f"{experiment.network} at {experiment.size} pixels, {pictures}batch {experiment.batch}, {seeds} seed"
        f"{'s' if seeds != 1 else ''}, and one schedule in every arm: the learning rate rises over "
        f"{experiment.burn_in} iterations. AP at IoU 0.5 on a val split that shares no near-duplicate with train."
    )


def _ap_plot(stage: FoundStage) -> Plot:
    points = sorted({one.iteration for arm in stage.arms for one in arm.evaluations})
    starts = list(dict.fromkeys(start for start, _ in stage.groups))
    freezes = list(dict.fromkeys(freeze for _, freeze in stage.groups))
    lines = [
        _band(
            _arm_name(key, arms),
            [_at(arms, point, lambda one: 100 * one.ap50) for point in points],
            starts.index(key[0]),
            freezes.index(key[1]),
        )
        for key, arms in stage.groups.items()
    ]
    start, freeze = stage.best
    told = (
        f"The best is {start} with {freeze} frozen layers. A colour for each start, dashes and marker for each freeze"
    )
    return Plot(
        f"ap-{stage.stage.name}",
        f"Stage {stage.stage.name}",
        f"{told}; the band spans the seeds.",
        "iterations",
        "AP at IoU 0.5 on val, %",
        tuple(points),
        tuple(lines),
        (0, 100),
    )


def _ap_tables(stage: FoundStage) -> list[Block]:
    """A table per start, as the published ones: a row per freeze count, a column per evaluation."""
    tables: list[Block] = []
    for start in dict.fromkeys(start for start, _ in stage.groups):
        groups = {freeze: arms for (name, freeze), arms in stage.groups.items() if name == start}
        points = sorted({one.iteration for arms in groups.values() for arm in arms for one in arm.evaluations})
        rows = tuple(
            (freeze, *(spread(_at(arms, point, lambda one: 100 * one.ap50)) for point in points))
            for freeze, arms in groups.items()
        )
        head = ("frozen layers", *(f"@{point}" for point in points))
        tables.append(Table(f"Stage {stage.stage.name}, start {start}: AP at IoU 0.5 on val, %", head, rows))
    return tables


def _freezing_plot(stage: FoundStage) -> list[Plot]:
    counts = sorted({int(freeze) for _, freeze in stage.groups if freeze.isdecimal()})
    if len(counts) < 2:
        return []
    lines = []
    for index, start in enumerate(dict.fromkeys(start for start, _ in stage.groups)):
        columns = [[100 * arm.best.ap50 for arm in stage.groups.get((start, str(count)), ())] for count in counts]
        lines.append(_band(start, columns, index, index))
    told = "Best AP of each start over the number of frozen layers; the band spans the seeds."
    title, label = f"Stage {stage.stage.name}", "best AP at IoU 0.5 on val, %"
    x = tuple(map(float, counts))
    return [Plot(f"freezing-{stage.stage.name}", title, told, "frozen layers", label, x, tuple(lines), (0, 100))]


def _layers(evidence: Evidence, stage: str) -> tuple[float, ...]:
    """Layer numbers of the convolutions of the stage's network, for the axis; empty where they have none."""
    assert evidence.scores is not None
    rows = next((trial.convolutions for trial in evidence.scores.trials if trial.stage == stage), ())
    numbers = [row["layer"] for row in rows]
    is_numbered = all(isinstance(one, int) for one in numbers) and len(set(numbers)) == len(numbers)
    return tuple(map(float, numbers)) if is_numbered else ()


def _difference_plot(
    curves: Mapping[str, Sequence[Sequence[float | None]]], name: str, title: str, layers: Sequence[float]
) -> Plot | None:
    """None where no curve has a value above 0."""
    lines = []
    for index, (start, seeds) in enumerate(curves.items()):
        columns = [[value for value in column if value is not None] for column in zip(*seeds, strict=True)]
        lines.append(_band(start, columns, index, index))
    if not any(value for line in lines for value in line.values):
        return None
    told = (
        "How far each convolution moved, on a logarithmic axis; the band spans the seeds. What is frozen did not move."
    )
    count = max(len(line.values) for line in lines)
    x = tuple(layers) if len(layers) == count else tuple(map(float, range(count)))
    return Plot(name, title[0].upper() + title[1:], told, "layer", title.partition(",")[0], x, tuple(lines), None, True)


def _difference_table(curves: Mapping[str, Sequence[Sequence[float | None]]], title: str) -> Table:
    rows = []
    for start, seeds in curves.items():
        found = [value for curve in seeds for value in curve if value]
        least, most = (min(found), max(found)) if found else (None, None)
        middle = statistics.median(found) if found else None
        rows.append((start, str(len(seeds)), figure_text(least), figure_text(middle), figure_text(most)))
    caption = f"{title}: over the convolutions that moved and the seeds"
    return Table(caption, ("start", "seeds", "least", "median", "largest"), tuple(rows))


def _loss_plot(name: str, title: str, arms: Sequence[Arm]) -> Plot:
    points = sorted({one.iteration for arm in arms for one in arm.evaluations})
    train = [_at(arms, point, lambda one: one.train_loss) for point in points]
    val = [_at(arms, point, lambda one: one.loss) for point in points]
    lines = (_band("train, smoothed, augmented pictures", train, 0, 0), _band("val, pictures as they are", val, 1, 1))
    verdicts = [arm.diagnosis.partition(":")[0] for arm in arms]
    commonest = statistics.mode(verdicts)
    told = arms[verdicts.index(commonest)].diagnosis
    share = f" ({verdicts.count(commonest)} of {len(arms)} seeds)" if len(arms) > 1 else ""
    return Plot(name, title, f"{told[0].upper()}{told[1:]}{share}.", "iterations", "loss", tuple(points), lines)


def _diagnoses(stage: FoundStage) -> Table:
    rows = tuple((arm.start, arm.freeze, str(arm.seed), arm.diagnosis) for arm in stage.arms)
    caption = f"Stage {stage.stage.name}: what the learning curves say"
    return Table(caption, ("start", "frozen", "seed", "diagnosis"), rows, left=4)


def _at(arms: Sequence[Arm], point: int, figure: Callable[[Evaluation], float | None]) -> list[float]:
    found = (figure(one) for arm in arms for one in arm.evaluations if one.iteration == point)
    return [value for value in found if value is not None]


def _band(name: str, columns: _Columns, colour: int, dash: int) -> Line:
    """The mean of each column, and its least and most where there are several seeds."""
    means = tuple(statistics.mean(column) if column else None for column in columns)
    if max(map(len, columns), default=0) < 2:
        return Line(name, means, colour, dash)
    low, high = (tuple(end(column) if column else None for column in columns) for end in (min, max))
    return Line(name, means, colour, dash, low, high)


def _arm_name(key: tuple[str, str], arms: Sequence[Arm]) -> str:
    forced = "*" if any(arm.is_forced for arm in arms) else ""
    return f"{key[0]}, freeze {key[1]}{forced}" + (f", {len(arms)} seeds" if len(arms) > 1 else "")
