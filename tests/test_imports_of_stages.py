"""Everything flows one way: no stage imports a later one, and what flies and what flashes import no stage at all."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("synthetic", "darknet", "networks", "curate", "train", "crosscheck", "score", "export", "report")
SCRIPTS = {"calibrating", "cli", "curating", "demo", "exporting", "reporting", "scoring", "training"}


def _imports(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every module that a file of ours imports by its full name, also inside of functions, and the file."""
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                yield node.module, file
            elif isinstance(node, ast.Import):
                yield from ((alias.name, file) for alias in node.names)


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_imports_a_later_one_or_a_script(stage: str) -> None:
    later = {f"pipeline.{name}" for name in (*STAGES[STAGES.index(stage) + 1 :], *SCRIPTS)}
    found = list(_imports(ROOT / "pipeline" / stage))
    assert found
    wrong = [(str(file), name) for name, file in found if ".".join(name.split(".")[:2]) in later]
    assert not wrong


@pytest.mark.parametrize("package", ["deploy", "jetson"])
def test_what_flies_and_what_flashes_import_neither_pipeline_nor_torch(package: str) -> None:
    found = list(_imports(ROOT / package))
    assert found
    assert not [(str(file), name) for name, file in found if name.split(".")[0] in ("pipeline", "torch")]


def test_every_package_has_its_place() -> None:
    folders = {path.parent.name for path in (ROOT / "pipeline").glob("*/__init__.py")}
    assert folders == {*STAGES, "cli", "doctor"}
