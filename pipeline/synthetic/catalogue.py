"""The classes that are drawn and the colours they share. It knows nothing about shapes."""

from typing import NamedTuple

__all__ = ["CLASSES", "COLOURS", "OBJECTS", "OCHRE", "TARGET", "TEAL", "WINDOWS", "Colour", "label_name", "shade"]


class Colour(NamedTuple):
    """RGB, each 0 to 255."""

    red: int
    green: int
    blue: int


TARGET = "Target window"
WINDOWS = ("Sash window", "Casement window", "Round window", "Arched window", "Shop window")
OBJECTS = ("Door", "Car", "Tree", "Lamp", "Sign", "Balcony", "Person", "Bin")
CLASSES = (*WINDOWS, TARGET, *OBJECTS)

TEAL = Colour(28, 112, 118)
OCHRE = Colour(204, 134, 40)
# Frames, shutters, doors, cars, signs and clothes choose among these: the target's colours give nothing away.
COLOURS = (
    TEAL,
    OCHRE,
    Colour(236, 234, 226),
    Colour(70, 46, 34),
    Colour(44, 48, 54),
    Colour(150, 38, 36),
    Colour(34, 74, 48),
    Colour(40, 62, 128),
    Colour(168, 172, 176),
    Colour(122, 84, 52),
)


def label_name(name: str) -> str:
    """The label of a class in the manner of Open Images, under a prefix of our own.

    >>> label_name("Sash window")
    '/x/sash_window'
    """
    return "/x/" + name.lower().replace(" ", "_")


def shade(colour: Colour, factor: float) -> Colour:
    """The colour times `factor`, clipped to 0 to 255."""
    red, green, blue = (max(0, min(255, round(value * factor))) for value in colour)
    return Colour(red, green, blue)
