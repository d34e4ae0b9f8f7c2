"""Reads small files of the kernel that may hang: a sensor on a bus that answers no more blocks who asks for ever.

Files are read in a thread of its own. Where one does not answer in time that thread is left behind, another goes on
with the rest, and the file is not asked again before its thread has come back: no more threads hang than files do.
"""

import threading
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence

_MOST = 4096  # bytes of a file that are looked at; a page is all that sysfs gives


class Answer(NamedTuple):
    """What a file said: text without white space around it, or why there is none; one of them is empty."""

    text: str
    problem: str


class PatientReader:
    """patience: seconds that one file may take."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._hanging: Dict[Path, threading.Thread] = {}

    def read(self, paths: Sequence[Path]) -> Dict[Path, Answer]:
        """An answer for every path, whatever happens to it."""
        self._hanging = {path: thread for path, thread in self._hanging.items() if thread.is_alive()}
        answers = {path: Answer("", "hangs") for path in paths if path in self._hanging}
        left = [path for path in paths if path not in answers]
        while left:
            batch = _Batch(left)
            batch.start()
            done = -1
            while done < len(batch.answers) and batch.is_alive():  # as long as it gets on
                done = len(batch.answers)
                batch.join(self._patience)
            got = list(batch.answers)
            batch.is_abandoned = True
            answers.update(zip(left, got))
            left = left[len(got) :]
            if left:
                path = left.pop(0)
                answers[path] = Answer("", "hangs")
                self._hanging[path] = batch
        return answers


class _Batch(threading.Thread):
    """Reads one path after the other until it is abandoned; answers has those of the first ones."""

    def __init__(self, paths: List[Path]) -> None:
        super().__init__(daemon=True, name="sensors")
        self._paths = list(paths)
        self.answers: List[Answer] = []
        self.is_abandoned = False

    def run(self) -> None:
        for path in self._paths:
            answer = _read(path)
            if self.is_abandoned:
                return
            self.answers.append(answer)


def _read(path: Path) -> Answer:
    try:
        with path.open("rb", buffering=0) as file:
            data = file.read(_MOST)
    except OSError as error:
        return Answer("", error.strerror or str(error))
    if data is None:  # a file that does not block, and has nothing yet
        return Answer("", "has nothing to say yet")
    text = data.decode("ascii", "replace").strip()
    return Answer(text, "") if text else Answer("", "is empty")
