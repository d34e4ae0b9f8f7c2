"""Reads a command line with the parser that will read it, and runs nothing: every verb, option and argument exists."""

import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

import deploy.cli
import jetson.__main__
from pipeline import cli

ROOT = Path(__file__).resolve().parents[1]

_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)
_PACKAGES = ("datasets", "experiments", "jetson", "deploy", "docs", "tests", "cloud", "pipeline")


class MisunderstoodError(AssertionError):
    """A command line that its program would refuse, or that names a file that is not in the tree."""


def every_command(group: Any = None, path: tuple[str, ...] = ("skylight",)) -> list[tuple[tuple[str, ...], Any]]:
    """Every verb of skylight, and every group of verbs: its words, and its parser."""
    command = typer.main.get_command(cli.app) if group is None else group
    found = [(path, command)]
    if isinstance(command, TyperGroup):
        for name, one in command.commands.items():
            found += every_command(one, (*path, name))
    return found


def check_line(line: str) -> None:
    """Check one line of a shell, without its comment; one that is not of ours is only looked at for our files.

    Raises:
        MisunderstoodError: with what its program would say.
    """
    for part in re.split(r"\s(?:&&|\|\||;|\||&)\s", line):
        words = _without_prefixes(shlex.split(part, comments=True))
        if words:
            check_words(words)


def check_words(words: list[str]) -> None:
    """The same of one program and its arguments."""
    program, arguments = words[0].removeprefix(".venv/bin/"), words[1:]
    if program == "skylight":
        _check_skylight(arguments)
    elif program == "skylight-detect":
        _check_drone(arguments)
    elif program == "make":
        _check_make(arguments)
    elif program.startswith("python") and arguments[:2] == ["-m", "jetson"]:
        _check_jetson(arguments[2:])
    elif program == "torchrun" and "pipeline.cli" in arguments:
        _check_skylight(arguments[arguments.index("pipeline.cli") + 1 :])
    for word in arguments:
        _check_file(word)


def is_ours(line: str) -> bool:
    """Whether a line calls a program of this project."""
    words = _without_prefixes(line.split())
    return bool(words) and words[0].removeprefix(".venv/bin/") in ("skylight", "skylight-detect", "make")


def _without_prefixes(words: list[str]) -> list[str]:
    """Leave out variables, sudo with its options, and redirections."""
    words = words[: next((index for index, word in enumerate(words) if word in (">", ">>", "<", "2>")), len(words))]
    while words and (_ASSIGNMENT.fullmatch(words[0]) or words[0] == "sudo"):
        words = words[1:]
        if words[:1] == ["-u"]:
            words = words[2:]
    return words


def _check_skylight(arguments: list[str]) -> None:
    if arguments[:1] == ["detect"]:
        return _check_drone(arguments[1:])
    if arguments[:1] == ["flash"]:
        return _check_jetson(arguments)
    command: Any = typer.main.get_command(cli.app)
    if [word for word in arguments if word.endswith("-completion")]:  # acts while it is read
        assert arguments[0] in {option for parameter in command.params for option in parameter.opts}, arguments
        return None
    try:
        context = command.make_context("skylight", list(arguments))
        while isinstance(command, TyperGroup):
            name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            context = command.make_context(name, rest, parent=context)
    except typer.Exit:  # --help
        return None
    except typer.TyperException as error:
        raise MisunderstoodError(
            f"skylight {shlex.join(arguments)}: {error.format_message() or error.message}"
        ) from None
    return None


def _check_drone(arguments: list[str]) -> None:
    words = list(arguments)
    name = words.pop(0) if words and words[0] in deploy.cli.COMMANDS else "run"
    _check_argparse(lambda: deploy.cli._parse(name, words), ["skylight-detect", *arguments])


def _check_jetson(arguments: list[str]) -> None:
    if not arguments or arguments[0] not in jetson.__main__.COMMANDS:
        raise MisunderstoodError(f"python -m jetson {shlex.join(arguments)}: no such command")
    module = importlib.import_module(jetson.__main__.COMMANDS[arguments[0]][0])
    parser = jetson.__main__._Parser(prog="jetson")
    module.add_arguments(parser)
    _check_argparse(lambda: parser.parse_args(arguments[1:]), ["jetson", *arguments])


def _check_argparse(parse: Any, words: list[str]) -> None:
    try:
        parse()
    except SystemExit as ended:  # argparse has said what it was
        if ended.code:
            raise MisunderstoodError(f"{shlex.join(words)}: refused, see above") from None


def _check_make(arguments: list[str]) -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):(?!=)", text, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z0-9_]+) \?=", text, re.MULTILINE)) | set(re.findall(r"\$\(([A-Z0-9_]+)\)", text))
    for word in arguments:
        known = word.split("=")[0] in variables if "=" in word else word in targets
        if not known:
            raise MisunderstoodError(f"make {word}: the Makefile knows none")


def _check_file(word: str) -> None:
    """A path into a folder of the tree must be there; what commands make lies elsewhere."""
    path = re.sub(r"\[.*\]$", "", word.removeprefix("./"))  # pip's extras
    if path.split("/")[0] in _PACKAGES and "/" in path and not list(ROOT.glob(path)):
        raise MisunderstoodError(f"{word}: no such file in the tree")
