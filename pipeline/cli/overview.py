"""What `skylight --help` says of every verb, on one screen of 80 by 50, and how a verb's own help shows its examples.

Knows the verbs by name only. A verb without a place here is an error of ours, which a test finds.
"""

from typing import Any

from typer.core import TyperGroup

__all__ = ["EXIT_STATUS", "Overview", "examples"]

EXIT_STATUS = "Exit status: 0 done, 2 for you to put right (a line says what), 130 Ctrl-C."

# Verbs by what they are needed for, in the order that they are needed in.
_GROUPS: dict[str, dict[str, str]] = {
    "The line, each step reading what the one before left": {
        "curate": "photos and a recipe, to data/SET",
        "train": "every start at every freeze count, to runs/EXPERIMENT",
        "report": "which start and which freeze count, on one page",
        "export": "the best trial, to bundles/NAME-VERSION; lint, profile",
        "detect": "a bundle on a picture, video, camera or stream, to boxes",
        "demo": "the whole line on drawn building fronts, nothing prepared",
    },
    "Which start, how many frozen layers": {
        "plan": "before: which of the four classic cases of transfer",
        "advise": "before: short probes of every start and freeze count",
        "score": "after: how far each trial moved, beside training on",
        "difference": "after: how far each layer moved between two files",
        "curves": "precision, recall, AP and F1 over the iterations",
    },
    "Networks and sets": {
        "evaluate": "how good any network is on a set, as Darknet measures",
        "weights": "what others published to start from",
        "anchors": "which anchors fit the boxes of a set",
        "classify": "classifiers of the objects cut out of a set",
        "features": "what a layer makes of photos",
    },
    "To the drone and back": {
        "bundle": "where a bundle comes from, is it whole, what differs",
        "keys": "which sign bundles",
        "calibrate": "the camera that flies, from pictures of a chessboard",
        "package": "a Debian package of what flies",
        "image": "NVIDIA's system with it and a bundle, for a Jetson",
        "flash": "an image onto a Jetson in recovery mode",
        "push": "a new bundle onto drones in the field, over SSH",
        "log": "what a flight was, and its frames worth labelling",
        "replay": "what another bundle finds in a flight",
    },
    "This machine": {"doctor": "what is missing or wrong here, and what to do about it"},
}

_ORDER = tuple(verb for verbs in _GROUPS.values() for verb in verbs)


class Overview(TyperGroup):
    """Verbs in groups, with a line for each."""

    def list_commands(self, _context: object) -> list[str]:
        """Every verb in its place."""
        return sorted(self.commands, key=_ORDER.index)

    def format_commands(self, _context: object, formatter: Any) -> None:
        """A heading for each group; a line for each of its verbs."""
        width = max(map(len, _ORDER))
        for heading, verbs in _GROUPS.items():
            rows = [(verb.ljust(width), about) for verb, about in verbs.items() if verb in self.commands]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


def examples(*lines: str, status: str = EXIT_STATUS) -> str:
    r"""The end of a command's help: examples, one a line, to be copied; what its exit status means.

    >>> examples("skylight weights").splitlines()
    ['\x08', 'Examples:', '  skylight weights', '', 'Exit status: 0 done, ...']
    """
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines), "", status])
