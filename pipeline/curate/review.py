"""Shows the candidates of a recipe in FiftyOne's App, where a person tags photos keep, drop or fix, and reads the tags.

Everything FiftyOne writes lies in a cache folder, its database in `<cache>/fiftyone`; one mongod serves all processes
that use the same cache and ends with the last of them. Knows nothing of why a photo was dropped, nor what becomes of
the verdicts.
"""

import os
import socket
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.curate.overrides import VERDICTS
from pipeline.curate.review_database import connect
from pipeline.errors import refuse
from pipeline.interrupt import stop_on_signals

__all__ = ["Candidate", "load_review", "open_review", "read_verdicts", "review_address", "verdicts_are_recorded"]

_HOST = "127.0.0.1"
_BATCH = 500  # samples per write to the database
# Fields of a sample or of a detection that mean something else.
_OF_SAMPLES = ("id", "filepath", "tags", "metadata", "created_at", "last_modified_at", "image_id", "rule", "split")
_OF_THIS = ("verdict", "borderline", "ground_truth", "predictions")
_OF_DETECTIONS = ("label", "bounding_box", "mask", "confidence", "index")
_NOT_SCORES = frozenset(_OF_SAMPLES + _OF_THIS + _OF_DETECTIONS)
_ELSEWHERE = "verdicts_of_photos_not_shown"  # where tags wait whose photo is no candidate this time


@dataclass(frozen=True)
class Candidate:
    """A photo with its boxes and what was decided about them.

    boxes: (N, 4) float64, xyxy, fractions of the photo as it is seen. labels: class name of each.
    box_scores: named columns, each (N,) float64, NaN where unknown. box_rules: "kept" or what dropped each box.
    rule: "kept" or what dropped the photo. split: None where it was dropped. scores: of the photo, NaN where unknown.
    borderline: whether a score lies close to its threshold. verdict: keep, drop or fix, as recorded so far, or None.
    predictions: (P, 4) float64 like boxes. prediction_scores: (P,) float64, 0 to 1. prediction_labels: P class names.
    """

    image_id: str
    path: Path
    boxes: np.ndarray
    labels: tuple[str, ...]
    box_scores: Mapping[str, np.ndarray]
    box_rules: tuple[str, ...]
    rule: str
    split: str | None
    scores: Mapping[str, float]
    borderline: bool
    verdict: str | None
    predictions: np.ndarray
    prediction_scores: np.ndarray
    prediction_labels: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.labels)
        lengths = {len(self.boxes), len(self.box_rules), *map(len, self.box_scores.values())}
        if lengths != {count}:
            raise ValueError(f"{self.image_id}: {count} labels, but columns of {sorted(lengths)}")
        if not len(self.predictions) == len(self.prediction_scores) == len(self.prediction_labels):
            raise ValueError(f"{self.image_id}: predictions, their scores and labels differ in number")
        clash = _NOT_SCORES.intersection([*self.scores, *self.box_scores])
        if clash:
            raise ValueError(f"{self.image_id}: a score cannot be called {min(clash)}")


def load_review(
    name: str, candidates: Sequence[Candidate], cache: Path, progress: Callable[[int], None] | None = None
) -> Any:
    """Build the FiftyOne dataset `skylight-<name>` from the candidates and return it.

    It takes the place of an older one only when it is complete. A tag that was set or taken away in the App since the
    older one was built stays so; otherwise the photo has the candidate's verdict. `progress` is called with the number
    of photos done.

    Raises:
        UserError: see `connect`.
    """
    fiftyone = connect(cache)
    title, part = _title(name), f"{_title(name)}-new"
    changed = {} if (older := _dataset(fiftyone, name)) is None else _changes(older)
    if fiftyone.dataset_exists(part):
        fiftyone.delete_dataset(part)
    dataset = fiftyone.Dataset(part, persistent=True)
    _declare(fiftyone, dataset, candidates)
    for start in range(0, len(candidates), _BATCH):
        batch = candidates[start : start + _BATCH]
        samples = [_sample(fiftyone, candidate, changed) for candidate in batch]
        dataset.add_samples(samples, validate=False, batcher=False, progress=False)
        if progress:
            progress(start + len(batch))
    if any(len(candidate.predictions) for candidate in candidates):
        _add_mistakenness(fiftyone, dataset)
    dataset.add_dynamic_sample_fields()
    shown = {candidate.image_id for candidate in candidates}
    dataset.info[_ELSEWHERE] = {key: list(tags) for key, tags in changed.items() if key not in shown and tags}
    _save_views(fiftyone, dataset, candidates)
    at_first = ["rule", "ground_truth", "predictions"]  # what the App draws on the photos
    dataset.app_config.active_fields = fiftyone.ActiveFields(exclude=False, paths=at_first)
    dataset.save()
    if fiftyone.dataset_exists(title):
        fiftyone.delete_dataset(title)
    dataset.name = title
    return dataset


def read_verdicts(name: str, cache: Path) -> dict[str, str]:
    """The tags keep, drop and fix of all photos by image id; {} where nothing was ever loaded.

    Raises UserError where a photo has two of them.
    """
    if not (cache / "fiftyone").is_dir():
        return {}
    dataset = _dataset(connect(cache), name)
    if dataset is None:
        return {}
    verdicts = {}
    tags_of = dict(dataset.info.get(_ELSEWHERE, {})) | {image_id: tags for image_id, tags, _ in _tags(dataset)}
    for image_id, tags in sorted(tags_of.items()):
        if len(tags) > 1:
            found = f"tagged {' and '.join(tags)}"
            raise refuse(f"photo {image_id}", found, "open the review again and leave one of the two tags")
        if tags:
            verdicts[image_id] = tags[0]
    return verdicts


def verdicts_are_recorded(name: str, cache: Path) -> None:
    """Say that what `read_verdicts` gives is now written down: from here on what is written down wins over the tags.

    Until then the tags count as changes that exist nowhere else, and `load_review` keeps them.
    """
    dataset = _dataset(connect(cache), name)
    if dataset is None:
        return
    dataset.set_values("verdict", [tags[0] if tags else None for _, tags, _ in _tags(dataset)])
    dataset.info[_ELSEWHERE] = {}
    dataset.save()


def open_review(
    name: str,
    cache: Path,
    port: int = 5151,
    stop: Callable[[], bool] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, str]:
    """Serve the App until Ctrl-C, or until `stop` says so, then return `read_verdicts`.

    A browser is opened where there is a display; `say` gets the lines that tell how to get there.

    Raises:
        UserError: nothing to show, or the App's server ended.
    """
    if _dataset(connect(cache), name) is None:
        raise refuse(f"review of {name}", "nothing to show", "curate the recipe first")
    _refuse_taken(port)
    server = _start_server(port, cache)
    try:
        address = review_address(name, port)
        for line in _instructions(address, port):
            say(line)
        if _has_display():
            webbrowser.open(address)
        with stop_on_signals() as signalled:
            while not signalled.is_set and not (stop and stop()):
                if not server.child.is_running():
                    raise refuse("FiftyOne's App", "its server ended", "open the review again; the tags are kept")
                time.sleep(0.1)
    finally:
        _stop_server(server)
    return read_verdicts(name, cache)


def review_address(name: str, port: int = 5151) -> str:
    """Where `open_review` shows the photos; ?view=dropped-isgroupof after it opens a saved view."""
    return f"http://{_HOST}:{port}/datasets/{_title(name)}"


def _title(name: str) -> str:
    return f"skylight-{name}"


def _dataset(fiftyone: Any, name: str) -> Any | None:
    """The dataset, or None. One whose process died between the last two steps of loading gets its name now."""
    title, part = _title(name), f"{_title(name)}-new"
    if fiftyone.dataset_exists(title):
        dataset = fiftyone.load_dataset(title)
        dataset.reload()
        return dataset
    if not fiftyone.dataset_exists(part):
        return None
    dataset = fiftyone.load_dataset(part)
    if _ELSEWHERE not in dataset.info:  # it is not complete
        return None
    dataset.name = title
    return dataset


def _tags(dataset: Any) -> Iterator[tuple[str, list[str], str | None]]:
    """Image id, verdicts among the tags in a fixed order, and the verdict that was recorded; in the dataset's order.

    A tag is typed by hand: case and surrounding blanks do not matter, and other tags are the person's own.
    """
    for image_id, tags, recorded in zip(*dataset.values(["image_id", "tags", "verdict"]), strict=True):
        said = {tag.strip().lower() for tag in tags or ()}
        yield image_id, [verdict for verdict in VERDICTS if verdict in said], recorded


def _changes(dataset: Any) -> dict[str, list[str]]:
    """The verdict tags of every photo on which they are not what was recorded."""
    changes = dict(dataset.info.get(_ELSEWHERE, {}))
    for image_id, tags, recorded in _tags(dataset):
        if tags != ([recorded] if recorded else []):
            changes[image_id] = tags
    return changes


def _add_mistakenness(fiftyone: Any, dataset: Any) -> None:
    """FiftyOne's own view of the predictions: how likely each box is a mistake, and which ones seem to be missing."""
    from fiftyone import brain

    brain.compute_mistakenness(dataset, "predictions", label_field="ground_truth", progress=False)
    dataset.save_view("possibly missing", dataset.match(fiftyone.ViewField("possible_missing") > 0))
    dataset.save_view("most mistaken", dataset.sort_by("mistakenness", reverse=True))


def _declare(fiftyone: Any, dataset: Any, candidates: Sequence[Candidate]) -> None:
    """Declare every field, so that a score nobody knows is empty rather than missing."""
    for field in ("image_id", "rule", "split", "verdict"):
        dataset.add_sample_field(field, fiftyone.StringField)
    dataset.add_sample_field("borderline", fiftyone.BooleanField)
    for field in ("ground_truth", "predictions"):
        dataset.add_sample_field(field, fiftyone.EmbeddedDocumentField, embedded_doc_type=fiftyone.Detections)
    for score in dict.fromkeys(score for candidate in candidates for score in candidate.scores):
        dataset.add_sample_field(score, fiftyone.FloatField)


def _sample(fiftyone: Any, candidate: Candidate, changed: Mapping[str, list[str]]) -> Any:
    recorded = [candidate.verdict] if candidate.verdict else []
    return fiftyone.Sample(
        filepath=str(candidate.path.resolve()),
        tags=list(changed.get(candidate.image_id, recorded)),
        image_id=candidate.image_id,
        rule=candidate.rule,
        split=candidate.split,
        verdict=candidate.verdict,
        borderline=candidate.borderline,
        ground_truth=fiftyone.Detections(detections=_ground_truth(fiftyone, candidate)),
        predictions=fiftyone.Detections(detections=_predictions(fiftyone, candidate)),
        **{score: _number(value) for score, value in candidate.scores.items()},
    )


def _ground_truth(fiftyone: Any, candidate: Candidate) -> list[Any]:
    columns = {score: np.asarray(values).tolist() for score, values in candidate.box_scores.items()}
    found = []
    for index, box in enumerate(_sides(candidate.boxes)):
        scores = {score: values[index] for score, values in columns.items() if np.isfinite(values[index])}
        label, rule = candidate.labels[index], candidate.box_rules[index]
        found.append(fiftyone.Detection(label=label, bounding_box=box, rule=rule, **scores))
    return found


def _predictions(fiftyone: Any, candidate: Candidate) -> list[Any]:
    triples = zip(
        candidate.prediction_labels, _sides(candidate.predictions), candidate.prediction_scores.tolist(), strict=True
    )
    return [fiftyone.Detection(label=label, bounding_box=box, confidence=score) for label, box, score in triples]


def _sides(boxes: np.ndarray) -> list[list[float]]:
    """From (N, 4) x1, y1, x2, y2 to N lists of left, top, width, height."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _save_views(fiftyone: Any, dataset: Any, candidates: Sequence[Candidate]) -> None:
    """One view per thing a person may want to look through; they show what is tagged when they are opened."""
    field = fiftyone.ViewField
    dataset.save_view("kept", dataset.match(field("rule") == "kept"))
    dataset.save_view("borderline", dataset.match(field("borderline") == True))  # noqa: E712 - an expression
    for rule in sorted({candidate.rule for candidate in candidates} - {"kept"}):
        dataset.save_view(f"dropped: {rule}", dataset.match(field("rule") == rule))
    for verdict in VERDICTS:
        dataset.save_view(f"tagged {verdict}", dataset.match_tags(verdict))


def _instructions(address: str, port: int) -> Iterator[str]:
    yield f"Review at {address}"
    yield f"Select photos, click the tag button, tag them {', '.join(VERDICTS[:-1])} or {VERDICTS[-1]}."
    if not _has_display():
        yield f"From another machine first: ssh -N -L {port}:{_HOST}:{port} USER@THIS-MACHINE"
    yield "Press Ctrl-C here when you are done."


def _has_display() -> bool:
    return sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def _refuse_taken(port: int) -> None:
    """A second App on the same port would show the first one's photos."""
    if not 0 < port < 65536:
        raise refuse("port", port, "give a number from 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise refuse(f"port {port}", error.strerror or str(error), "close what uses it, or give another") from None


def _start_server(port: int, cache: Path) -> Any:
    import site

    import fiftyone.core.service as services

    class Server(services.ServerService):
        @property
        def env(self) -> dict[str, str]:
            """It writes a user's number below the home folder, tracking or not; packages may be there, too."""
            home = str(cache.resolve() / "fiftyone-files")
            places = {"HOME": home, "USERPROFILE": home, "PYTHONUSERBASE": site.getuserbase()}
            return {**super().env, **places}

    try:
        return Server(port, address=_HOST, do_not_track=True)
    except services.ServiceListenTimeout:
        raise refuse("FiftyOne's App", f"nothing listens on port {port} after 60 s", "give another port") from None


def _stop_server(server: Any) -> None:
    """An open browser window would hold the server for half a minute; it has nothing to lose."""
    import psutil

    running = server.child.children(recursive=True) if server.child.is_running() else []
    server.child.stdin.close()
    _, alive = psutil.wait_procs(running, timeout=1)
    for process in alive:
        process.kill()
    server.child.wait()
    server._disabled = True  # its destructor would stop it again
