"""Reads sources of many formats into `Annotations`. The official Open Images files have a door of their own."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.curate.annotations import Annotations
from pipeline.curate.readers.common import only_options

__all__ = ["OPTIONS", "read_source"]

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "open-images": (),
    "yolo": ("classes",),
    "coco": ("annotations", "images"),
    "voc": ("annotations", "images"),
    "kitti": ("labels", "images"),
    "wheat": ("annotations", "images"),
}


def read_source(format_name: str, folder: Path, options: Mapping[str, str]) -> Annotations:
    """Read `folder`, which has the format of that name; what an option says is described in the format's file.

    Raises:
        UserError: the file, line and value that is wrong, or an option that the format does not have.
    """
    only_options(options, OPTIONS[format_name], format_name)
    if format_name == "open-images":
        from pipeline.curate.readers.open_images import read_open_images

        return read_open_images(folder)
    if format_name == "yolo":
        from pipeline.curate.readers.yolo import read_yolo

        return read_yolo(folder, options)
    if format_name == "coco":
        from pipeline.curate.readers.coco import read_coco

        return read_coco(folder, options)
    if format_name == "voc":
        from pipeline.curate.readers.voc import read_voc

        return read_voc(folder, options)
    if format_name == "kitti":
        from pipeline.curate.readers.kitti import read_kitti

        return read_kitti(folder, options)
    from pipeline.curate.readers.wheat import read_wheat

    return read_wheat(folder, options)
