"""The sections of the page about what goes in and what comes out: curation, parity, speed on boards, provenance."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.bundle import Bundle
from jetson.board import Arithmetic, board_names, read_board
from pipeline.errors import UserError
from pipeline.report.blocks import Block, Section, Table, Text
from pipeline.report.bundle import chain_lines
from pipeline.report.evidence import Evidence

__all__ = ["asked_section", "curation_section", "parity_section", "provenance_section", "speed_section"]

_RULES = {"image": "their photo was dropped"}  # what the ledger says of boxes that broke no rule themselves


def asked_section(evidence: Evidence) -> Section:
    """What the experiment was to find out."""
    experiment = evidence.experiment
    rows = []
    for stage in experiment.stages:
        about = evidence.sets.get(stage.data, (None, None))[1]
        starts = ", ".join(start.name for start in stage.starts)
        counts = [str(about["splits"][split]["images"]) for split in ("train", "val")] if about else ["", ""]
        classes = ", ".join(about["classes"]) if about else ""
        rows.append((stage.name, stage.data, classes, starts, *counts, str(stage.iterations)))
    head = ("stage", "set", "classes", "starts", "train", "val", "iterations")
    table = Table("The stages, and how many pictures each trains and is measured on", head, tuple(rows), left=4)
    told = (
        f"{experiment.network} at {experiment.size} x {experiment.size} pixels ({experiment.resize}), "
        f"batch {experiment.batch}, learning rate {experiment.learning_rate:g} after {experiment.burn_in} iterations."
    )
    texts = (experiment.description, told) if experiment.description else (told,)
    return Section("asked", "What was asked", (*(Text(text) for text in texts), table))


def curation_section(evidence: Evidence) -> Section:
    """What was left after each rule of every set."""
    blocks: list[Block] = []
    missing = []
    for key, (folder, about) in evidence.sets.items():
        if about is None or "remaining" not in about:
            missing.append(f"{key} ({folder}) was not curated here, so no rule dropped anything.")
            continue
        blocks.append(_funnel(about))
        blocks += _by_rule(folder / "ledger.parquet")
    for key in sorted(evidence.experiment.data.keys() - evidence.sets.keys()):
        missing.append(f"The recipe of {key} is not at hand. {evidence.command('curate')} makes the set.")
    return Section("curation", "Curation: what was left after each rule", tuple(blocks), tuple(missing))


def parity_section(evidence: Evidence) -> Section:
    """How far what flies departs from what was trained, of every bundle of the experiment."""
    blocks: list[Block] = []
    chosen = evidence.target.best_trial(evidence.target.best)
    for bundle in evidence.bundles:
        blocks += _parity(bundle)
        if not _holds_chosen(bundle, evidence):
            first: Mapping[str, Any] = next(iter(bundle.provenance.get("chain", ())), {})
            held = f"{first.get('stage')}/{first.get('trial')}"
            ours = f"{chosen.settings.stage}/{chosen.settings.trial}"
            blocks.append(Text(f"{bundle.name} {bundle.version} holds {held}, not {ours}, which is the best here."))
    missing = tuple(f"A bundle could not be read: {reason}." for reason in evidence.unreadable)
    if not evidence.bundles:
        missing += (f"{evidence.command('export')} makes a bundle, and compares it with the trained network.",)
    return Section("parity", "Parity: does what flies find the same", tuple(blocks), missing)


def speed_section(evidence: Evidence) -> Section:
    """Estimates for every board whose peak is known, of the chosen trial's bundle, or else of the last by name."""
    title = "Speed per board (estimated)"
    if not evidence.bundles:
        told = f"{evidence.command('export')} makes a bundle, whose model is then estimated for every board."
        return Section("speed", title, missing=(told,))
    from pipeline.export.profile import estimates

    bundle = next((one for one in evidence.bundles if _holds_chosen(one, evidence)), evidence.bundles[-1])
    boards = [read_board(name) for name in board_names()]
    known: list[Arithmetic] = [board for board in boards if board.peak is not None]
    try:
        found = estimates(bundle.model, known)
    except UserError as error:
        return Section("speed", title, missing=(f"No estimate: {error}.",))
    budgets = {board.name: board.latency_budget.get("network") for board in boards}
    rows = tuple(
        (
            one.board,
            one.precision,
            f"{one.milliseconds:.2f}",
            f"{1000 / one.milliseconds:.0f}",
            _budget(budgets, one.board),
        )
        for one in found
    )
    head = ("board", "precision", "ms at least", "frames/s at most", "ms allowed")
    unknown = [board.name for board in boards if board.peak is None]
    told = (
        f"Estimated, not measured: the roofline of {bundle.name} {bundle.version} at {bundle.width}x{bundle.height}, "
        "from operations, bytes and the board's peaks. No engine reaches it. "
        f"`skylight export profile {bundle.root}` says more; what a board takes is measured on it."
    )
    if unknown:
        told += f" No peak is known of {', '.join(unknown)}."
    caption = "The network alone; ms allowed is the board's own budget for it"
    return Section("speed", title, (Text(told), Table(caption, head, rows, left=2)))


def provenance_section(evidence: Evidence) -> Section:
    """Where weights and data come from, and what trained them."""
    target = evidence.target
    trial = target.best_trial(target.best)
    settings, result = trial.settings, trial.result
    rows = [
        ("trial", f"{settings.experiment}/{settings.stage}/{settings.trial}"),
        ("weights", result.best_weights_sha256),
        ("start", settings.start_sha256 or "random weights"),
        ("network", f"{settings.network}, {settings.network_sha256}"),
        ("data", f"{settings.data}, {settings.data_hash}"),
        ("trained on", ", ".join(f"{key} {value}" for key, value in result.machine.items())),
    ]
    for key, (_, about) in evidence.sets.items():
        if about and about.get("licences"):
            rows.append((f"licences of {key}", ", ".join(about["licences"])))
    blocks: list[Block] = [Table("The chosen trial; hashes are SHA-256", ("what", "which"), tuple(rows), left=2)]
    for bundle in evidence.bundles:
        blocks.append(Text(f"Bundle {bundle.name} {bundle.version}, signature: {bundle.signature.text}."))
        blocks.append(Text("\n".join(chain_lines(bundle.provenance)), is_code=True))
    return Section("provenance", "Provenance", tuple(blocks))


def _funnel(about: Mapping[str, Any]) -> Table:
    rows = [(row["rule"], str(row["images"]), str(row["boxes"])) for row in about["remaining"]]
    splits = about["splits"]
    rows += [(f"{name} split", str(count["images"]), str(count["boxes"])) for name, count in splits.items()]
    near = f"; {about['near_duplicates']} near-duplicates share a split" if about.get("near_duplicates") else ""
    return Table(f"{about['name']}: left after each rule{near}", ("rule", "images", "boxes"), tuple(rows), bar=1)


def _by_rule(ledger: Path) -> list[Table]:
    """What each rule dropped and what a person decided, from the ledger; nothing without one."""
    if not ledger.is_file():
        return []
    import duckdb

    with duckdb.connect() as database:
        found = database.execute(
            "SELECT rule, count(*) FILTER (WHERE kind = 'image'), count(*) FILTER (WHERE kind <> 'image'), "
            "count(override) FROM read_parquet(?) WHERE NOT kept GROUP BY rule ORDER BY count(*) DESC, rule",
            [str(ledger)],
        ).fetchall()
    if not found:
        return []
    rows = tuple((_RULES.get(rule, rule), *map(str, counts)) for rule, *counts in found)
    head = ("rule", "images dropped", "boxes dropped", "by a person")
    return [Table(f"{ledger.parent.name}: what the ledger says was dropped", head, rows)]


def _parity(bundle: Bundle) -> list[Block]:
    blocks: list[Block] = []
    for one in bundle.parity.get("inputs", ()):
        rows = []
        for compared in one["comparisons"]:
            limits = compared["limits"]
            figures = [f"{compared[key]:.2g} (≤ {limits[key]:g})" for key in limits]
            rows.append((compared["against"], compared["precision"], *figures))
        head = ("against", "precision", *(one["comparisons"][0]["limits"] if one["comparisons"] else ()))
        about = f"{bundle.name} {bundle.version} at {one['input']}: {one['reference']} on {one['pictures']} pictures"
        caption = f"{about} of val, AP {100 * one['ap50']:.1f} %; largest differences, each with its limit"
        blocks.append(Table(caption, head, tuple(rows), left=2))
        blocks += [Text(f"Not compared: {reason}.") for reason in one["left_out"]]
    return blocks


def _holds_chosen(bundle: Bundle, evidence: Evidence) -> bool:
    """Whether its weights are those of the best trial of the answer."""
    chosen = evidence.target.best_trial(evidence.target.best)
    return bool(bundle.provenance.get("weights_sha256") == chosen.result.best_weights_sha256)


def _budget(budgets: Mapping[str, float | None], board: str) -> str:
    budget = budgets[board]
    return "" if budget is None else f"{budget:g}"
