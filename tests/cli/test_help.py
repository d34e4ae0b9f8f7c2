"""What the command says of itself: one screen, examples that its own parser takes, one line for an error."""

import inspect
import os
import re
from pathlib import Path
from typing import Any

import pytest
from commandline import check_line, every_command
from drawn import Skylight, assert_refused
from typer.core import TyperGroup

from jetson.package.version import version

COMMANDS = every_command()


def _words(value: Any) -> str:
    return " ".join(value) if isinstance(value, tuple) else ""


VERBS = [(path, command) for path, command in COMMANDS if not isinstance(command, TyperGroup)]

# The program behind them says it: skylight-detect and python -m jetson. The demo prints tables of its own.
PASSED_ON = {
    ("skylight", "detect"),
    ("skylight", "flash"),
    ("skylight", "package"),
    ("skylight", "image"),
    ("skylight", "push"),
}
WITHOUT_JSON = PASSED_ON | {("skylight", "demo")}


def _text(skylight: Skylight, *words: str) -> str:
    done = skylight(*words, "--help", env={"COLUMNS": "80", "PATH": "/usr/bin:/bin"} | _pythonpath())
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def _pythonpath() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PYTHONPATH", "HOME") if name in os.environ}


def test_the_whole_story_fits_on_one_screen(skylight: Skylight) -> None:
    lines = _text(skylight).splitlines()
    assert len(lines) <= 50, len(lines)
    assert max(map(len, lines)) <= 80
    assert all(character.isprintable() for line in lines for character in line)
    for path, _ in COMMANDS[1:]:
        if len(path) == 2:
            (line,) = [line for line in lines if line.split()[:1] == [path[1]]]
            assert not line.endswith("..."), line
    order = ("curate", "train", "export", "detect", "advise", "evaluate", "flash", "doctor")
    starts = [next(n for n, line in enumerate(lines) if line.split()[:1] == [verb]) for verb in order]
    assert starts == sorted(starts)


def test_the_version_is_that_of_the_package(skylight: Skylight) -> None:
    assert skylight("--version").stdout == f"skylight {version()}\n"


@pytest.mark.parametrize(("path", "command"), COMMANDS[1:], ids=_words)
def test_every_verb_has_help_examples_and_its_exit_status(path: tuple[str, ...], command: Any) -> None:
    assert len(command.help or "") > 20
    for parameter in command.params:
        if parameter.name != "epochs":  # says it all
            assert getattr(parameter, "help", "--help"), f"{path}: {parameter.name}"
    heading, _, rest = command.epilog.partition("Examples:\n")
    shown, _, status = rest.partition("\n\n")
    assert heading == "\b\n"
    assert re.search(r"Exit status: 0 .* 2 .* 130 ", status)
    lines = [line.strip() for line in shown.splitlines()]
    assert lines
    for line in lines:
        assert line.startswith(" ".join(path[:2])), line
        check_line(line)


@pytest.mark.parametrize(("path", "command"), VERBS, ids=_words)
def test_every_verb_that_prints_results_prints_them_for_machines(path: tuple[str, ...], command: Any) -> None:
    options = {option for parameter in command.params for option in parameter.opts}
    assert ("--json" in options) == (path not in WITHOUT_JSON)
    source = inspect.getsource(inspect.unwrap(command.callback))
    assert ("as_json" in source.partition('"""')[2]) == (path not in WITHOUT_JSON), "--json is not read"


def test_help_in_a_log_is_plain_text_with_examples_to_copy(skylight: Skylight) -> None:
    text = _text(skylight, "difference")
    assert "\x1b" not in text
    (line,) = [line for line in text.splitlines() if "--write-freeze freeze.yaml" in line]
    assert line.strip().startswith("skylight difference")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["calibrate", "board"], ("Missing option '--board'", "see skylight calibrate --help")),
        (["train"], ("Missing argument 'EXPERIMENT'", "see skylight train --help")),
        (["train", "e.yaml", "--frob"], ("No such option: --frob", "see skylight train --help")),
        (["curate", "r.yaml", "--port", "x"], ("--port", "see skylight curate --help")),
        (["bundle", "shw"], ("Did you mean 'show'?", "see skylight bundle --help")),
        (["bundle", "show"], ("Missing argument 'BUNDLE'", "see skylight bundle show --help")),
        (["export", "--board"], ("'--board' requires an argument", "see skylight export --help")),
        (["keys", "new", "--name"], ("see skylight keys new --help",)),
        (["trian"], ("No such command 'trian'", "train", "see skylight --help")),
    ],
)
def test_a_wrong_word_is_one_line_that_names_the_help_of_its_verb(
    skylight: Skylight, tmp_path: Path, words: list[str], parts: tuple[str, ...]
) -> None:
    done = skylight(*words, cwd=tmp_path)
    assert_refused(done, *parts)
    assert done.stderr.rstrip().endswith("--help")
    assert not list(tmp_path.iterdir())
