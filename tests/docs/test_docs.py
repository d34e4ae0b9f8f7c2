"""What the pages tell to type is what the programs take; what they link to is there.

A block's language says how it is checked; docs/README.md lists them.
"""

import ast
import importlib
import re
from pathlib import Path

import pytest
import yaml
from commandline import MisunderstoodError, check_line, every_command, is_ours
from pages import PAGES, ROOT, Block, anchors, blocks, inline_code, links

from deploy.drone_settings import SECTIONS
from deploy.settings import read_settings
from pipeline.curate.recipe import Recipe
from pipeline.experiment import Experiment, ExportChoice

BLOCKS = blocks()
COMMANDS = ("sh", "console")
LANGUAGES = (*COMMANDS, "text", "yaml", "ini", "python")

# Programs of others that a block may call.
OTHERS = {"cd", "git", "pip", "python", "python3", "ssh", "sh", "chgrp", "useradd", "usermod", "install", "systemctl"}


def _of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def _name(block: Block) -> str:
    return block.name


def _lines(block: Block) -> list[str]:
    return [line.strip() for line in block.text.replace("\\\n", " ").splitlines() if line.strip()]


def test_every_block_says_how_it_is_checked() -> None:
    assert len(_of(*COMMANDS)) > 15
    for block in BLOCKS:
        assert block.language in (*LANGUAGES, ""), block.name


@pytest.mark.parametrize("block", BLOCKS, ids=_name)
def test_every_command_in_a_block_is_understood(block: Block) -> None:
    for line in _lines(block):
        if block.language in COMMANDS or is_ours(line):
            check_line(line)


@pytest.mark.parametrize("block", _of("sh"), ids=_name)
def test_commands_for_everybody_need_no_root_and_are_known(block: Block) -> None:
    for line in _lines(block):
        if not line.startswith("#"):
            assert is_ours(line) or line.split()[0] in OTHERS, line
            assert "sudo" not in line.split(), f"{line}: needs root, so the block is console"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_inline_commands_name_verbs_and_options_that_exist(page: Path) -> None:
    commands = {path[1:]: command for path, command in every_command()}
    for code in inline_code(page):
        words = code.split()
        if words[0] != "skylight" or len(words) == 1 or not words[1].isalpha() or not words[1].islower():
            continue
        path = tuple(words[1:3]) if tuple(words[1:3]) in commands else tuple(words[1:2])
        assert path in commands, f"`{code}`"
        if path in (("detect",), ("flash",)):
            continue
        known = {option for parameter in commands[path].params for option in parameter.opts}
        if path == ("export",):
            known |= {option for parameter in commands["export", "make"].params for option in parameter.opts}
        for word in words:
            if word.startswith("--"):
                assert word.split("=")[0] in known | {"--help"}, f"`{code}`"


@pytest.mark.parametrize("block", _of("yaml"), ids=_name)
def test_experiments_and_recipes_are_valid(block: Block) -> None:
    content = yaml.safe_load(block.text)
    if "stages" in content:
        Experiment.model_validate(content)
    elif "classes" in content:
        Recipe.model_validate(content)
    elif set(content) == {"export"}:
        ExportChoice.model_validate(content["export"])


@pytest.mark.parametrize("block", _of("ini"), ids=_name)
def test_settings_are_those_of_the_drone(block: Block, tmp_path: Path) -> None:
    (tmp_path / "detect.ini").write_text(block.text)
    read_settings(tmp_path / "detect.ini", SECTIONS)


@pytest.mark.parametrize("block", _of("python"), ids=_name)
def test_code_names_what_exists(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module}.{alias.name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        assert path.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(path), target


def test_the_index_names_every_page_and_the_readme_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    named = {target for target in links(index) if "/" not in target}
    assert named == {page.name for page in PAGES[1:]} - {"README.md"}
    assert "docs/README.md" in links(ROOT / "README.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_are_there(page: Path) -> None:
    for code in inline_code(page):
        if re.fullmatch(r"(experiments|pipeline|deploy|jetson|tests|cloud)/[\w./-]+", code):
            is_made = code.startswith("tests/benchmarks/results")
            is_example = any(part.split(".")[0].isupper() for part in code.split("/"))
            assert is_made or is_example or list(ROOT.glob(code)), code


@pytest.mark.parametrize(
    "line",
    [
        "skylight trian e.yaml",
        "skylight curate datasets/facades.yaml --sauce x",
        "skylight curate datasets/nothing.yaml",
        "skylight calibrate board --board 9x6",
        "skylight bundle shw x && make demo",
        "skylight-detect run --bundle b",
        "sudo -u skylight skylight-detect rollbock a",
        ".venv/bin/python -m jetson flash --bord x",
        "make trian",
        "make train EXPERIMEND=x",
    ],
)
def test_a_wrong_command_would_be_found(line: str) -> None:
    with pytest.raises(MisunderstoodError):
        check_line(line)
