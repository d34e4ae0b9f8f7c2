"""Where the official Open Images V7 files lie, on the network and in a folder. It reads none of them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.curate.readers.open_images_v7 import OfficialFiles
from pipeline.download import download
from pipeline.errors import refuse

__all__ = ["ANNOTATIONS_URL", "IMAGES_URL", "ensure_official", "local_official"]

# As the download page of Open Images V7 names them; V7 kept the boxes of V6 and V5.
ANNOTATIONS_URL = "https://storage.googleapis.com/openimages"
IMAGES_URL = "https://open-images-dataset.s3.amazonaws.com"
_BOXES = {
    "train": "v6/oidv6-train-annotations-bbox.csv",
    "validation": "v5/validation-annotations-bbox.csv",
    "test": "v5/test-annotations-bbox.csv",
}
_IMAGES = {
    "train": "2018_04/train/train-images-boxable-with-rotation.csv",
    "validation": "2018_04/validation/validation-images-with-rotation.csv",
    "test": "2018_04/test/test-images-with-rotation.csv",
}
_CLASSES = "v7/oidv7-class-descriptions-boxable.csv"
_OTHER_CLASSES = ("class-descriptions-boxable.csv", "oidv7-class_names.csv")  # as earlier versions called it


def ensure_official(
    cache: Path,
    subsets: Sequence[str],
    base_url: str | None = None,
    report: Callable[[str, int, int], None] | None = None,
) -> list[OfficialFiles]:
    """Download what is not in `cache` yet, 2.3 GB of boxes for training; returns the files of each subset.

    base_url: of a mirror with the same paths. The files are named by their length and MD5 where the server says so.

    Raises:
        UserError: what `download` raises.
    """
    folder = cache / "open-images-v7"

    def get(path: str) -> Path:
        name = Path(path).name

        def progress(done: int, total: int | None) -> None:
            if report:
                report(f"download {name}", done, total or done)

        target = folder / name
        return (
            target if target.is_file() else download(f"{base_url or ANNOTATIONS_URL}/{path}", target, progress=progress)
        )

    classes = get(_CLASSES)
    return [OfficialFiles(subset, get(_BOXES[subset]), classes, get(_IMAGES[subset])) for subset in subsets]


def local_official(folder: Path, subsets: Sequence[str]) -> list[OfficialFiles]:
    """Find the official files in `folder`, under the names they have on the download page.

    The list of images and `<subset>_sizes.csv` (image_id, image_w, image_h) are used where they are there.

    Raises:
        UserError: no such folder, or a file that is needed is not in it.
    """
    if not folder.is_dir():
        raise refuse(folder, "no such folder", "give the folder of the box files, or leave it out to download them")
    names = [Path(_CLASSES).name, *_OTHER_CLASSES]
    classes = next((folder / name for name in names if (folder / name).is_file()), None)
    if classes is None:
        raise refuse(folder, f"no {names[0]}", "put the list of classes there, as the download page names it")
    found = []
    for subset in subsets:
        boxes, images = folder / Path(_BOXES[subset]).name, folder / Path(_IMAGES[subset]).name
        sizes = folder / f"{subset}_sizes.csv"
        if not boxes.is_file():
            remedy = "put it there, or take the subset out of the recipe"
            raise refuse(folder, f"no {boxes.name} for the subset {subset}", remedy)
        found.append(
            OfficialFiles(
                subset, boxes, classes, images if images.is_file() else None, sizes if sizes.is_file() else None
            )
        )
    return found
