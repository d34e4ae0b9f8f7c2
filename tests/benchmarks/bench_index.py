"""Reading a box file as long as Open Images' own: this project's reader against FiftyOne's, in one run.

    python tests/benchmarks/bench_index.py

Writes a file in the official columns with made-up rows, 14.6 million by default, then reads the windows of it in a
process of its own each: `read_official`, which checks every value and keeps three-valued flags, and what FiftyOne's
Open Images importer calls to read the same file, `fiftyone.utils.openimages._get_label_data`. The better of two runs
counts.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import duckdb
from measure import Measured, available_memory, run_measured, write_result

ROWS = 14_610_229  # as oidv6-train-annotations-bbox.csv has
BOXES_PER_IMAGE = 8
FIFTYONE_NEEDS = 13 * 2**30  # bytes for all rows

OURS = """
import json, sys, time
from pathlib import Path
from pipeline.curate.readers.open_images_v7 import OfficialFiles, read_official
started = time.perf_counter()
folder = Path(sys.argv[1])
files = OfficialFiles("train", folder / "labels" / "detections.csv", folder / "metadata" / "classes.csv")
found = read_official([files], ["Window"])
seconds = time.perf_counter() - started
print(json.dumps({"seconds": seconds, "boxes": len(found.row), "images": len(found.image_ids)}))
"""

FIFTYONES = """
import json, sys, time
import fiftyone.utils.openimages as openimages
with open(sys.argv[1] + "/ids.txt") as file:
    ids = file.read().split()
started = time.perf_counter()
_, any_ids, data, _ = openimages._get_label_data(
    sys.argv[1], ids, "detections", classes=["Window"], oi_classes=["/m/0d4v4"], track_all_ids=False, download=False)
seconds = time.perf_counter() - started
table = data["df"]
print(json.dumps({"seconds": seconds, "boxes": int((table["LabelName"] == "/m/0d4v4").sum()), "images": len(any_ids)}))
"""


def main() -> None:
    """Measure both, print the ratios, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "index.json")
    options = parser.parse_args()
    needed = FIFTYONE_NEEDS * options.rows // ROWS
    if available_memory() < needed:
        raise SystemExit(f"FiftyOne needs about {needed / 2**30:.0f} GiB for {options.rows} rows; give --rows")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_made_up_boxes(folder, options.rows)
        size = (folder / "labels" / "detections.csv").stat().st_size
        print(f"{options.rows} made-up rows, {size / 1e9:.2f} GB", flush=True)
        runs = [(run_measured(OURS, [folder]), run_measured(FIFTYONES, [folder])) for _ in range(2)]
    ours, theirs = (min(side, key=lambda run: run.seconds) for side in zip(*runs, strict=True))
    if (ours.said["boxes"], ours.said["images"]) != (theirs.said["boxes"], theirs.said["images"]):
        raise SystemExit(f"the readers disagree: {ours.said} and {theirs.said}")
    _show("this project", ours)
    _show("FiftyOne", theirs)
    faster, smaller = theirs.seconds / ours.seconds, theirs.peak_bytes / ours.peak_bytes
    print(f"{faster:.1f} times as fast with 1/{smaller:.1f} of the memory")
    results = {"rows": options.rows, "file_bytes": size, "ours": ours, "fiftyone": theirs}
    write_result(options.out, sys.argv, results | {"times_as_fast": faster, "times_less_memory": smaller})


def write_made_up_boxes(folder: Path, rows: int) -> None:
    """Write labels/detections.csv, metadata/classes.csv and ids.txt; a twentieth of the images hold windows."""
    for part in ("labels", "metadata"):
        (folder / part).mkdir(parents=True)
    with duckdb.connect() as connection:
        connection.execute(
            f"""
            COPY (
                SELECT printf('%016x', hash(i // {BOXES_PER_IMAGE})) AS ImageID,
                    CASE WHEN hash(i * 7 + 1) % 10 < 7 THEN 'xclick' ELSE 'activemil' END AS Source,
                    CASE WHEN hash(i // {BOXES_PER_IMAGE} + 5) % 20 = 0 AND hash(i) % 2 = 0 THEN '/m/0d4v4'
                         ELSE '/m/0' || (hash(i * 3) % 600)::VARCHAR END AS LabelName,
                    1 AS Confidence,
                    printf('%.6f', (hash(i * 11) % 500000) / 1e6) AS XMin,
                    printf('%.6f', 0.5 + (hash(i * 13) % 500000) / 1e6) AS XMax,
                    printf('%.6f', (hash(i * 17) % 500000) / 1e6) AS YMin,
                    printf('%.6f', 0.5 + (hash(i * 19) % 500000) / 1e6) AS YMax,
                    (hash(i * 23) % 3)::INT - 1 AS IsOccluded, (hash(i * 29) % 3)::INT - 1 AS IsTruncated,
                    (hash(i * 31) % 20 = 0)::INT AS IsGroupOf, 0 AS IsDepiction, 0 AS IsInside
                FROM range({rows}) made_up(i)
            ) TO '{folder}/labels/detections.csv' (HEADER, DELIMITER ',')
            """
        )
        connection.execute(
            f"COPY (SELECT DISTINCT printf('%016x', hash(i)) FROM range({-(-rows // BOXES_PER_IMAGE)}) made_up(i)) "
            f"TO '{folder}/ids.txt' (HEADER false)"
        )
    classes = "".join(f"/m/0{index},class {index}\n" for index in range(600))
    (folder / "metadata" / "classes.csv").write_text(f"/m/0d4v4,Window\n{classes}")


def _show(name: str, run: Measured) -> None:
    print(f"{name:14} {run.seconds:7.2f} s {run.peak_bytes / 2**20:8.0f} MiB  {run.said}")


if __name__ == "__main__":
    main()
