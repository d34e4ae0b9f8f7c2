"""Reads Pascal VOC: an XML file per photo in Annotations/, photos in JPEGImages/.

Options: `annotations` and `images`, folders below the source folder. VOC counts pixels from 1 and includes the last,
so 1 is taken from xmin and ymin. `truncated` and `occluded` are the flags; `difficult` is none: it says how hard an
object is to recognise, and a difficult object is labelled like any other. Boxes are taken to belong to the photo as it
is seen: one of another size than the file says is refused. A photo without a file is not read.
"""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.curate.annotations import UNKNOWN, Annotations
from pipeline.curate.readers.common import NewBox, collected, existing_folder, existing_photo, inside, shown
from pipeline.errors import refuse
from pipeline.photos import photo_size

__all__ = ["read_voc"]


def read_voc(folder: Path, options: Mapping[str, str]) -> Annotations:
    """Read every XML file and the photo it names; the name of a photo without its suffix is its id.

    Raises:
        UserError: the file or object that cannot be read, and why; no XML files.
    """
    existing_folder(folder, "give a folder with Annotations/ and JPEGImages/")
    images = folder / options.get("images", "JPEGImages")
    annotations = folder / options.get("annotations", "Annotations")
    files = sorted(annotations.glob("*.xml"))
    if not files:
        raise refuse(annotations, "no XML files", "put them there, or name their folder with the option annotations")
    roots = [_root(path) for path in files]
    names = sorted({_name(path, item) for path, root in zip(files, roots, strict=True) for item in _objects(root)})
    photos, sizes, boxes = [], [], []
    for place, (path, root) in enumerate(zip(files, roots, strict=True)):
        photo = _photo(path, root, images)
        size = _size(path, root, photo)
        photos.append(photo)
        sizes.append(size)
        for number, item in enumerate(_objects(root), start=1):
            where = f"{path}: object {number}"
            flags = {"IsTruncated": _flag(where, item, "truncated"), "IsOccluded": _flag(where, item, "occluded")}
            box = inside(where, _corners(where, item), *size)
            boxes.append(NewBox(photo.stem, names.index(_name(path, item)), box, place, number, flags))
    return collected(files, names, photos, np.array(sizes, dtype=np.float64), boxes)


class _NoDoctype(ET.TreeBuilder):
    """Stops at a document type, in whatever encoding it is written, before any of its entities is used."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise _DoctypeError


class _DoctypeError(Exception):
    pass


def _root(path: Path) -> ET.Element:
    try:
        root = ET.fromstring(path.read_bytes(), parser=ET.XMLParser(target=_NoDoctype()))
    except _DoctypeError:
        remedy = "remove it: VOC has none, and it may be made to exhaust the memory"
        raise refuse(path, "a document type", remedy) from None
    except (ET.ParseError, LookupError, ValueError) as error:  # the latter two: an encoding nobody knows
        raise refuse(path, f"no XML ({error})", "give a complete file") from None
    if root.tag != "annotation":
        raise refuse(path, f"the element {shown(root.tag)}", "a file of VOC is one element named annotation")
    return root


def _objects(root: ET.Element) -> list[ET.Element]:
    return root.findall("object")


def _photo(path: Path, root: ET.Element, images: Path) -> Path:
    return existing_photo(str(path), "filename", _text(path, root, "filename", path.stem + ".jpg").strip(), images)


def _size(path: Path, root: ET.Element, photo: Path) -> tuple[int, int]:
    """Width and height as seen. What the file says must be the same; some tools write nothing, or 0."""
    seen = photo_size(photo)
    stated = tuple(root.findtext(f"size/{key}", "").strip() for key in ("width", "height"))
    if stated not in (("", ""), ("0", "0"), (str(seen[0]), str(seen[1]))):
        found = f"size {shown(' x '.join(stated))}, but the photo is seen as {seen[0]} x {seen[1]}"
        raise refuse(path, found, "give the photo as the annotator saw it, without EXIF rotation, or correct the size")
    return seen


def _name(path: Path, item: ET.Element) -> str:
    name = _text(path, item, "name").strip()
    if not name:
        raise refuse(path, "an object with an empty name", "give the name of its class")
    return name


def _flag(where: str, item: ET.Element, key: str) -> int:
    text = item.findtext(key, "").strip()
    if text not in ("0", "1", ""):
        raise refuse(where, f"{key} {shown(text)}", "allowed are 0 and 1")
    return int(text) if text else UNKNOWN


def _text(path: Path, element: ET.Element, key: str, default: str | None = None) -> str:
    found = element.findtext(key, default)
    if found is None:
        raise refuse(path, f"an {element.tag} without {key}", "add it")
    return found


def _corners(where: str, item: ET.Element) -> np.ndarray:
    box = item.find("bndbox")
    words = [box.findtext(key) if box is not None else None for key in ("xmin", "ymin", "xmax", "ymax")]
    try:
        corners = np.array([float(word or "") for word in words])
    except ValueError:
        raise refuse(where, f"bndbox {shown(words)}", "give xmin, ymin, xmax and ymax in pixels") from None
    return corners - [1, 1, 0, 0]
