"""The command `skylight`: one verb per stage. What a verb does lies in its package, loaded when it is called."""

import errno
import os
import sys
import tempfile
import time
from typing import Any

import typer
import typer.core

from pipeline.cli import (  # noqa: F401 - add their verbs
    advise,
    bundle,
    calibrate,
    classify,
    curate,
    detect,
    doctor,
    evaluate,
    export,
    jetson,
    lint,
    replay,
    report,
    score,
    train,
)
from pipeline.cli.app import app
from pipeline.errors import UserError
from pipeline.interrupt import Interrupted, say_what_is_kept

__all__ = ["app", "main"]

_KEPT = "what was complete is kept"


def main() -> None:
    """Run the command line; what the user can put right is one line and exit status 2."""
    # Threads that wait by spinning slow two trainings on the same cores to a quarter; alone it makes no difference.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with say_what_is_kept(_KEPT):  # also at SIGTERM: what is half-written is cleared away
            status = app(standalone_mode=False)
            if status == 130:  # what typer makes of Ctrl-C, without a word
                raise KeyboardInterrupt
        sys.exit(status)
    except typer.TyperException as error:
        if "\n" in error.message:  # called without a command: the help
            print(error.message)
            sys.exit(2)
        _fail(_misunderstood(error), 2)
    except UserError as error:
        _let_first_speak()
        _fail(str(error), 2)
    except Interrupted as stopped:
        _fail(f"stopped: {stopped}", 130)
    except (KeyboardInterrupt, typer.Abort):
        _fail(f"stopped: {_KEPT}", 130)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that may not be written
        if error.errno == errno.ENOSPC and error.filename is None:
            _fail(f"no space left here or in {tempfile.gettempdir()}; make room; what was complete is kept", 2)
        _fail(f"{error.filename or 'file system'}: {error.strerror or error}; what was complete is kept", 2)


def _misunderstood(error: typer.TyperException) -> str:
    """One line about words that no command takes, and where that command says what it takes."""
    context = getattr(error, "ctx", None)  # of the command that was being read; an option without its value has none
    command = _verb_of(sys.argv[1:]) if context is None else context.command_path
    message = (error.format_message() or error.message).rstrip(".").replace("\n", " ")
    return f"{message}; see {command} --help"


def _verb_of(words: list[str]) -> str:
    """The command that `words` begin with, as far as they name one."""
    command: Any = typer.main.get_command(app)
    path = "skylight"
    for word in words:
        if not isinstance(command, typer.core.TyperGroup) or word not in command.commands:
            break
        command, path = command.commands[word], f"{path} {word}"
    return path


def _let_first_speak() -> None:
    """When one process fails torchrun ends the others: who is left after a while had something of its own to say."""
    if os.environ.get("RANK", "0") != "0":
        time.sleep(5)


def _fail(message: str, status: int) -> None:
    if status != 130 or os.environ.get("RANK", "0") == "0":  # of torchrun's processes the first tells of a stop
        print(f"skylight: {message}", file=sys.stderr)
    sys.exit(status)
