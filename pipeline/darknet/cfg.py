"""Darknet's `.cfg` text as sections of options, each with its line; knows nothing about what a layer computes."""

import difflib
import importlib.resources
import importlib.resources.abc
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import UserError

__all__ = ["Cfg", "Section", "adapted", "network_cfg", "read_cfg", "shipped_networks", "with_options"]

_ASSIGNMENT = re.compile(r"([^=]+)=(.*)")


@dataclass(frozen=True)
class Section:
    """One `[kind]` with its options, in the file's order.

    Attributes:
        path: the file, for messages.
        kind: the word between the brackets.
        line: line number of the bracket, from 1.
        options: key -> (value, line number); of a repeated key the first counts, as in Darknet.
    """

    path: Path
    kind: str
    line: int
    options: dict[str, tuple[str, int]] = field(default_factory=dict)

    def error(self, found: str, remedy: str, key: str | None = None) -> UserError:
        """Make an error that names file, line and section."""
        line = self.options[key][1] if key in self.options else self.line
        return UserError(f"{self.path}:{line}: [{self.kind}] {found}; {remedy}")

    def text(self, key: str, default: str | None = None) -> str:
        """Return the value of `key`; without a default a missing key is an error."""
        if key in self.options:
            return self.options[key][0]
        if default is None:
            raise self.error(f"has no {key}", f"add a line {key}=...")
        return default

    def integer(self, key: str, default: int | None = None, at_least: int | None = None) -> int:
        """Return `key` as an integer of at least `at_least`."""
        return int(self._number(key, None if default is None else float(default), at_least, whole=True))

    def number(self, key: str, default: float | None = None, at_least: float | None = None) -> float:
        """Return `key` as a number of at least `at_least`."""
        return self._number(key, default, at_least, whole=False)

    def integers(self, key: str, default: Iterable[int] | None = None) -> tuple[int, ...]:
        """Return `key` as integers separated by commas."""
        if key not in self.options and default is not None:
            return tuple(default)
        return tuple(int(part) for part in self._parts(key, r"[+-]?\d+", "integers"))

    def numbers(self, key: str) -> tuple[float, ...]:
        """Return `key` as numbers separated by commas."""
        return tuple(float(part) for part in self._parts(key, r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", "numbers"))

    def _number(self, key: str, default: float | None, at_least: float | None, whole: bool) -> float:
        if key not in self.options and default is not None:
            return default
        text = self.text(key)
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        too_small = at_least is not None and value < at_least
        if not math.isfinite(value) or (whole and value != int(value)) or too_small:
            limit = "" if at_least is None else f" of at least {at_least}"
            raise self.error(f"{key}={text}", f"{key} takes {'an integer' if whole else 'a number'}{limit}", key)
        return value

    def _parts(self, key: str, pattern: str, what: str) -> list[str]:
        text = self.text(key)
        parts = text.rstrip(",").split(",")
        if not all(re.fullmatch(pattern, part) for part in parts):
            raise self.error(f"{key}={text}", f"{key} takes {what} separated by commas", key)
        return parts

    def allow(self, keys: Iterable[str], neutral: Iterable[str] = ()) -> None:
        """Refuse any option outside `keys`; one in `neutral` changes the computation and may only be 0."""
        known, zero = set(keys), set(neutral)
        for key, (value, _) in self.options.items():
            if key in zero and value.strip("0.") != "":
                raise self.error(f"{key}={value} is not supported", f"remove it or set {key}=0", key)
            if key not in known | zero:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"accepted: {', '.join(sorted(known))}"
                raise self.error(f"unknown option {key}={value}", hint, key)


@dataclass(frozen=True)
class Cfg:
    """A whole file: the `[net]` section and, in order, one section per layer (layer 0 is the first after `[net]`)."""

    path: Path
    text: str
    net: Section
    layers: tuple[Section, ...]


def shipped_networks() -> tuple[str, ...]:
    """Names of the networks whose cfg comes with Skylight."""
    return tuple(sorted(entry.name[:-4] for entry in _shipped_folder().iterdir() if entry.name.endswith(".cfg")))


def network_cfg(network: str) -> Cfg:
    """Read the cfg of a shipped network by name, or of a path that ends in `.cfg`.

    Raises:
        UserError: no such network, or a line of the file that is wrong.
    """
    if network in shipped_networks():
        return read_cfg(Path(str(_shipped_folder() / f"{network}.cfg")))
    if network.endswith(".cfg"):
        return read_cfg(Path(network))
    raise UserError(f"network {network}: unknown; give a path to a .cfg or one of {', '.join(shipped_networks())}")


def read_cfg(path: Path) -> Cfg:
    """Read a cfg file.

    Raises:
        UserError: no such file, text that is neither section, option nor comment, no `[net]` first, or no layer.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors on Windows write a byte-order mark
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; give the path of a Darknet .cfg") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file; give the path of a Darknet .cfg") from None
    return _parse(path, text)


def with_options(cfg: Cfg, changes: dict[int, dict[str, str]], net: dict[str, str] | None = None) -> Cfg:
    """Return `cfg` with options of some layers (by layer index) and of `[net]` replaced or added, the rest unchanged.

    >>> small = with_options(network_cfg("yolov3-tiny"), {}, {"width": "224", "height": "224"})
    >>> small.net.integer("width")
    224
    """
    edits = {cfg.net.line: net or {}, **{cfg.layers[index].line: options for index, options in changes.items()}}
    lines: list[str] = []
    pending: dict[str, str] = {}
    for number, line in enumerate(cfg.text.splitlines(), 1):
        if _strip(line).startswith("["):
            _insert_before_blank(lines, [f"{key}={value}" for key, value in pending.items()])
            pending = dict(edits.get(number, {}))
        match = _ASSIGNMENT.fullmatch(_strip(line))
        key = match.group(1) if match and not _is_comment(_strip(line)) else None
        lines.append(f"{key}={pending.pop(key)}" if key in pending else line)
    _insert_before_blank(lines, [f"{key}={value}" for key, value in pending.items()])
    return _parse(cfg.path, "\n".join(lines) + "\n")


def adapted(cfg: Cfg, width: int, height: int, classes: int) -> Cfg:
    """Return `cfg` for another input size, in pixels, and another number of classes in every yolo head."""
    changes: dict[int, dict[str, str]] = {}
    for index, section in enumerate(cfg.layers):
        if section.kind == "yolo":
            anchors = len(section.integers("mask", range(section.integer("num", 1, 1))))
            changes[index] = {"classes": str(classes)}
            if index == 0 or "filters" not in cfg.layers[index - 1].options:
                raise section.error("follows no convolution", "put a [convolutional] section before it")
            changes[index - 1] = {"filters": str(anchors * (5 + classes))}
    return with_options(cfg, changes, {"width": str(width), "height": str(height)})


def _insert_before_blank(lines: list[str], new: list[str]) -> None:
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    lines[end:end] = new


def _parse(path: Path, text: str) -> Cfg:
    sections: list[Section] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = _strip(raw)
        if not line or _is_comment(line):
            continue
        if line.startswith("["):
            if not re.fullmatch(r"\[\w+\]", line):
                raise UserError(
                    f"{path}:{number}: {raw.strip()[:40]!r} is no section; write [name], for example [yolo]"
                )
            sections.append(Section(path, line[1:-1], number))
            continue
        match = _ASSIGNMENT.fullmatch(line)
        if not match or not sections:
            remedy = "write key=value" if sections else "begin with a [net] section"
            raise UserError(f"{path}:{number}: {raw.strip()[:40]!r} is neither section, option nor comment; {remedy}")
        sections[-1].options.setdefault(match.group(1), (match.group(2), number))
    if not sections or sections[0].kind not in ("net", "network"):
        found = f"begins with [{sections[0].kind}]" if sections else "has no section"
        raise UserError(f"{path}: {found}; the first section must be [net]")
    if len(sections) == 1:
        raise UserError(f"{path}: has no layer; add at least one section after [net]")
    return Cfg(path, text, sections[0], tuple(sections[1:]))


def _strip(line: str) -> str:
    """Remove all white space, inside too: Darknet's utils.c `strip`."""
    return re.sub(r"\s", "", line)


def _is_comment(line: str) -> bool:
    return line[0] in "#;" if line else False


def _shipped_folder() -> importlib.resources.abc.Traversable:
    return importlib.resources.files("pipeline.darknet") / "cfg"
