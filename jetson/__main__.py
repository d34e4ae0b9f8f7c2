"""The command `python -m jetson`: reads what is asked, and calls the module that does it. Needs pydantic and PyYAML."""

import argparse
import importlib
import sys
from typing import NoReturn

from deploy.errors import UserError

# By name: the module, which has `add_arguments(parser)`, `run(arguments)` and EXAMPLES, and what it does.
COMMANDS = {
    "package": ("jetson.package.command", "the Debian package of what flies, for a board"),
    "image": ("jetson.image.command", "NVIDIA's packages, what flies and a bundle into an image"),
    "flash": ("jetson.flash.command", "put an image on a module in recovery mode, clone it, restore it"),
    "push": ("jetson.push.command", "a new bundle for drones in the field, over SSH, taken back if it does not fly"),
}


def main(argv: list[str] | None = None, **given: object) -> int:
    """Run the command; returns its exit status. given: passed on to the command, such as another host."""
    words = sys.argv[1:] if argv is None else list(argv)
    if not words or words[0] not in COMMANDS:
        print(_help(), end="")
        return 0 if words in (["-h"], ["--help"]) else 2
    module = importlib.import_module(COMMANDS[words[0]][0])
    parser = _Parser(
        prog=f"python -m jetson {words[0]}",
        description=(module.run.__doc__ or "").strip().splitlines()[0],
        epilog=module.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    arguments = parser.parse_args(words[1:])
    try:
        return int(module.run(arguments, **given))
    except UserError as error:
        print(f"jetson {words[0]}: {error}", file=sys.stderr)
    except OSError as error:  # a full disk, a folder that may not be written
        print(f"jetson {words[0]}: {error.filename}: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"jetson {words[0]}: stopped", file=sys.stderr)
        return 130
    return 2


class _Parser(argparse.ArgumentParser):
    """Refuses in one line, as everything here does."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _help() -> str:
    lines = [f"  {name:<8} {about}" for name, (_, about) in COMMANDS.items()]
    return "usage: python -m jetson COMMAND OPTIONS\n\ncommands:\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
