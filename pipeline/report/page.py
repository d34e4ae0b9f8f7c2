"""The report of an experiment: one HTML page that needs no network and no other file.

Style, script and the plotting library are written into it, so that it can be copied, mailed and kept. The library is
uPlot (MIT licence; its text goes along).
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.experiment import Experiment
from pipeline.files import write_text
from pipeline.report.answer import answer_section
from pipeline.report.blocks import Block, Fold, Plot, Section
from pipeline.report.evidence import read_evidence
from pipeline.report.frames import Progress, detections_section
from pipeline.report.origins import (
    asked_section,
    curation_section,
    parity_section,
    provenance_section,
    speed_section,
)
from pipeline.report.training import curves_section, difference_section, freezing_section, sweep_section
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = ["render", "write_report"]

_FOLDER = Path(__file__).parent
_LIBRARY = _FOLDER / "vendor" / "uplot"


def write_report(
    experiment: Experiment, file: Path, workspace: Workspace, out: Path, progress: Progress | None = None
) -> Path:
    """Write OUT/<experiment>/index.html and return its path; beside it detections.json, which a later call reuses.

    The same runs give the same bytes. file: of the experiment, as commands on the page name it.

    Raises:
        UserError: no finished trial, or a file of another version.
    """
    evidence = read_evidence(experiment, file, workspace)
    folder = out / experiment.name
    sections = (
        answer_section(evidence),
        asked_section(evidence),
        sweep_section(evidence),
        freezing_section(evidence),
        difference_section(evidence),
        curves_section(evidence),
        detections_section(evidence, folder / "detections.json", progress),
        curation_section(evidence),
        parity_section(evidence),
        speed_section(evidence),
        provenance_section(evidence),
    )
    path = folder / "index.html"
    write_text(path, render(experiment.name, sections))
    return path


def render(title: str, sections: Sequence[Section]) -> str:
    """The whole page as HTML; words are escaped."""
    plots = [plot.as_dict() for section in sections for plot in _plots(section.blocks)]
    return (
        _templates()
        .get_template("report.html")
        .render(
            title=title,
            sections=sections,
            plots=plots,
            library=_asset(_LIBRARY / "uPlot.iife.min.js"),
            library_style=_asset(_LIBRARY / "uPlot.min.css"),
            licence=_asset(_LIBRARY / "LICENSE"),
            style=_asset(_FOLDER / "templates" / "report.css"),
            script=_asset(_FOLDER / "templates" / "report.js"),
        )
    )


def _plots(blocks: Sequence[Block]) -> list[Plot]:
    """Those in folds too, in the order of the page."""
    found: list[Plot] = []
    for block in blocks:
        if isinstance(block, Plot):
            found.append(block)
        elif isinstance(block, Fold):
            found += _plots(block.blocks)
    return found


@cache
def _asset(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["marked"] = _marked
    return environment


def _marked(text: str) -> "Markup":
    """Escape a sentence; every second part between backticks becomes code."""
    from markupsafe import Markup, escape

    parts = (escape(part) for part in text.split("`"))
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts))
