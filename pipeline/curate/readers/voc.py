"""Reads Pascal VOC: an XML file per photo in Annotations/, photos in JPEGImages/.

Options: `annotations` and `images`, folders below the source folder. VOC counts pixels from 1 and includes the last,
so 1 is taken from xmin and ymin. `truncated` and `occluded` are the flags; `difficult` is none: it says how hard an
object is to recognise, and a difficult object is labelled like any other.
"""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.curate.annotations import Annotations
from pipeline.curate.readers.common import NewBox, collected, existing_folder, inside
from pipeline.errors import refuse
from pipeline.photos import photo_size

__all__ = ["read_voc"]


def read_voc(folder: Path, options: Mapping[str, str]) -> Annotations:
    """Read every XML file and the photo it names; the name of a photo without its suffix is its id."""
    existing_folder(folder, "give a folder with Annotations/ and JPEGImages/")
    images = folder / options.get("images", "JPEGImages")
    annotations = folder / options.get("annotations", "Annotations")
    files = sorted(annotations.glob("*.xml"))
    if not files:
        raise refuse(annotations, "no XML files", "put them there, or name their folder with the option annotations")
    roots = [_root(path) for path in files]
    names = sorted(
        {_text(path, item, "name") for path, root in zip(files, roots, strict=True) for item in _objects(root)}
    )
    photos, sizes, boxes = [], [], []
    for place, (path, root) in enumerate(zip(files, roots, strict=True)):
        photo = _photo(path, root, images)
        size = photo_size(photo)
        photos.append(photo)
        sizes.append(size)
        for number, item in enumerate(_objects(root), start=1):
            where = f"{path}: object {number}"
            flags = {
                flag: int(_text(path, item, key, "0").strip() not in ("0", ""))
                for flag, key in (("IsTruncated", "truncated"), ("IsOccluded", "occluded"))
                if item.find(key) is not None
            }
            box = inside(where, _corners(where, item), *size)
            boxes.append(NewBox(photo.stem, names.index(_text(path, item, "name")), box, place, number, flags))
    return collected(files, names, photos, np.array(sizes, dtype=np.float64), boxes)


def _root(path: Path) -> ET.Element:
    content = path.read_bytes()
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise refuse(path, "a document type", "remove it: VOC has none, and it may be made to exhaust the memory")
    try:
        return ET.fromstring(content)
    except ET.ParseError as error:
        raise refuse(path, f"no XML ({error})", "give a complete file") from None


def _objects(root: ET.Element) -> list[ET.Element]:
    return root.findall("object")


def _photo(path: Path, root: ET.Element, images: Path) -> Path:
    name = _text(path, root, "filename", path.stem + ".jpg").strip()
    if Path(name).name != name:
        raise refuse(path, f"filename {name!r}", "give a name without folders")
    if not (images / name).is_file():
        raise refuse(path, f"filename {name!r}, and no such photo in {images}", "add the photo or remove the file")
    return images / name


def _text(path: Path, element: ET.Element, key: str, default: str | None = None) -> str:
    found = element.findtext(key, default)
    if found is None:
        raise refuse(path, f"a {element.tag} without {key}", "add it")
    return found


def _corners(where: str, item: ET.Element) -> np.ndarray:
    box = item.find("bndbox")
    words = [box.findtext(key) if box is not None else None for key in ("xmin", "ymin", "xmax", "ymax")]
    try:
        corners = np.array([float(word or "") for word in words])
    except ValueError:
        raise refuse(where, f"bndbox {words}", "give xmin, ymin, xmax and ymax in pixels") from None
    return corners - [1, 1, 0, 0]
