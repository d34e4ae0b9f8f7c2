"""Where the official files lie, and how they get into the cache from a server that misbehaves."""

import base64
import hashlib
import importlib.util
import re
from pathlib import Path

import pytest
from bad_server import Answer, bad_server

from pipeline import download
from pipeline.curate.official import ANNOTATIONS_URL, IMAGES_URL, ensure_official, local_official
from pipeline.errors import UserError

BOXES = "/v6/oidv6-train-annotations-bbox.csv"
CLASSES = "/v7/oidv7-class-descriptions-boxable.csv"
IMAGES = "/2018_04/train/train-images-boxable-with-rotation.csv"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "pause", lambda attempt, wait: None)


def _answers() -> dict[str, Answer]:
    return {path: Answer(path.encode() * 10_000) for path in (BOXES, CLASSES, IMAGES)}


def test_the_addresses_are_those_that_fiftyone_downloads_from(tmp_path: Path) -> None:
    """FiftyOne is what Open Images recommends for downloading; its table is read without importing it."""
    found = importlib.util.find_spec("fiftyone")
    assert found is not None
    assert found.origin is not None
    text = (Path(found.origin).parent / "utils" / "openimages.py").read_text()
    known = set(re.findall(r'"(https://storage[^"]+)"', text))
    asked: list[str] = []
    for subset in ("train", "validation", "test"):
        with bad_server({}) as server:
            for _ in range(3):  # each is refused, and named; then it is there
                with pytest.raises(UserError, match="404"):
                    ensure_official(tmp_path / subset, [subset], server.url)
                server.answers[server.asked[-1][0]] = Answer(b"content")
            ensure_official(tmp_path / subset, [subset], server.url)
            asked += server.answers
    addresses = {ANNOTATIONS_URL + path for path in asked}
    assert len(addresses) == 7
    # The classes are the one file that the download page of V7 renamed; FiftyOne takes the older name.
    assert addresses - known == {ANNOTATIONS_URL + CLASSES}
    assert IMAGES_URL == "https://open-images-dataset.s3.amazonaws.com"


def test_a_download_that_broke_off_goes_on_in_the_next_run(tmp_path: Path) -> None:
    answers = _answers()
    answers[BOXES].faults = ["cut", *[503] * 9]
    with bad_server(answers) as server:
        with pytest.raises(UserError, match=r"oidv6-train-annotations-bbox\.csv: the server answers 503"):
            ensure_official(tmp_path, ["train"], server.url)
        answers[BOXES].faults.clear()
        server.asked.clear()
        (files,) = ensure_official(tmp_path, ["train"], server.url)
        assert server.asked[0][0] == BOXES  # the classes were there already
        assert server.asked[0][1] != ""
    assert files.subset == "train"
    assert files.images is not None
    assert (files.boxes.read_bytes(), files.images.read_bytes()) == (answers[BOXES].content, answers[IMAGES].content)
    (again,) = local_official(tmp_path / "open-images-v7", ["train"])
    assert again == files


def test_boxes_that_are_not_what_the_server_promises_stay_out_of_the_cache(tmp_path: Path) -> None:
    answers = _answers()
    promised = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    answers[BOXES].headers = {"x-goog-hash": f"crc32c=AAAAAA==,md5={promised}"}
    with bad_server(answers) as server, pytest.raises(UserError, match=r"md5 .* instead of"):
        ensure_official(tmp_path, ["train"], server.url)
    assert [path.name for path in (tmp_path / "open-images-v7").iterdir()] == [Path(CLASSES).name]
