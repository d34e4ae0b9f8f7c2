"""A person's verdicts on photos, in a CSV that can be read, edited by hand and kept in git.

`<recipe>.review.csv` has the columns image_id, verdict and note. keep: no rule may drop the photo. drop: it goes. fix:
its boxes are wrong; it goes until somebody has put them right and changed the verdict. Knows nothing about the App the
verdicts may come from, nor about the rules they overrule.
"""

import csv
import io
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import refuse
from pipeline.files import write_text

__all__ = ["VERDICTS", "Override", "merge_verdicts", "read_overrides", "verdicts_of", "write_overrides"]

VERDICTS = ("keep", "drop", "fix")

_COLUMNS = ["image_id", "verdict", "note"]


@dataclass(frozen=True)
class Override:
    """verdict: one of VERDICTS. note: why, in the person's words, or empty."""

    verdict: str
    note: str = ""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict {self.verdict!r}; it is one of {', '.join(VERDICTS)}")


def read_overrides(path: Path) -> dict[str, Override]:
    """The verdicts by image id, in the order of the file; {} where there is no file.

    Raises UserError, with the line, for what is no verdict and for a photo that has two.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise refuse(path, "not UTF-8 text", "save it as UTF-8") from None
    found: dict[str, Override] = {}
    lines: dict[str, int] = {}
    for line, row in _rows(path, text):
        where = f"{path} line {line}"
        if len(row) != len(_COLUMNS):
            raise refuse(where, f"{len(row)} values", "give image_id,verdict,note; quote a note that holds a comma")
        image_id, verdict, note = (value.strip() for value in row)
        if not image_id:
            raise refuse(where, "no image_id", "name the photo, or remove the line")
        if verdict not in VERDICTS:
            raise refuse(where, f"verdict {verdict!r} for {image_id}", f"give one of {', '.join(VERDICTS)}")
        if image_id in found:
            first = f"{found[image_id].verdict} in line {lines[image_id]}"
            raise refuse(where, f"{image_id} a second time, after {first}", "leave one line for each photo")
        found[image_id] = Override(verdict, note)
        lines[image_id] = line
    return found


def _rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Each row below the header with the line it begins in; blank lines are passed over."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    is_header, line = True, 1
    try:
        for row in reader:
            if any(value.strip() for value in row):
                if not is_header:
                    yield line, row
                elif [value.strip() for value in row] != _COLUMNS:
                    raise refuse(f"{path} line {line}", f"found {','.join(row)!r}", "begin with image_id,verdict,note")
                is_header = False
            line = reader.line_num + 1
    except csv.Error as error:
        raise refuse(f"{path} line {line}", str(error), "correct the quotes") from None
    if is_header:
        raise refuse(path, "an empty file", "begin with image_id,verdict,note, or remove it")


def write_overrides(path: Path, overrides: Mapping[str, Override]) -> None:
    """Write the verdicts, sorted by image id: the same verdicts give the same bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for image_id in sorted(overrides):
        writer.writerow([image_id, overrides[image_id].verdict, overrides[image_id].note])
    write_text(path, text.getvalue())


def verdicts_of(overrides: Mapping[str, Override]) -> dict[str, str]:
    """keep, drop or fix by image id."""
    return {image_id: override.verdict for image_id, override in overrides.items()}


def merge_verdicts(
    overrides: Mapping[str, Override], said: Mapping[str, str], shown: Collection[str]
) -> dict[str, Override]:
    """The overrides after a review that showed the photos `shown` and ended with the verdicts `said`.

    A photo that was shown and has no verdict any more loses its own; one that was not shown keeps it. A note stays with
    the verdict it explains.
    """
    merged = {image_id: override for image_id, override in overrides.items() if image_id not in set(shown)}
    for image_id, verdict in said.items():
        before = overrides.get(image_id)
        merged[image_id] = before if before and before.verdict == verdict else Override(verdict)
    return merged
