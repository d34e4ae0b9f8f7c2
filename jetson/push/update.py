"""The update of one drone, from top to bottom: look, copy, install, start, watch, take back what does not fly well."""

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from deploy.bundle import Bundle
from deploy.errors import UserError, refuse
from deploy.life.store import folder_name
from jetson.push.connection import Answer, Connection, LostError
from jetson.push.copy import Piece, copy_bundle, pieces_of
from jetson.push.questions import (
    JOURNAL,
    RESET,
    RESTART,
    STOP,
    Look,
    Place,
    install_words,
    look_words,
    read_folder,
    read_look,
    ready_words,
    remove_words,
    rollback_words,
)
from jetson.push.watch import Judge

__all__ = ["STATUS", "Outcome", "Plan", "Result", "Update"]

Result = Literal["flies", "flew already", "rolled back", "refused", "unknown", "stopped"]
STATUS: dict[Result, int] = {
    "flies": 0, "flew already": 0, "rolled back": 1, "refused": 2, "unknown": 3, "stopped": 130,
}  # fmt: skip
EVERY = 2.0  # seconds between two looks
_SILENCE = 60.0  # seconds without an answer, after the switch, after which nothing is known
_BUSY = "another installation is running"  # deploy/life/store.py
_BUSY_LIMIT = 960.0  # seconds: the golden frames' limit on the drone, and a little
_UP = ("active", "activating", "reloading")  # of a service that runs, or is tried again and again
_SETUP = "docs/push.md, Once on the drone"


@dataclass(frozen=True)
class Plan:
    """What is to be done: bundle, as it was verified here, and how long it is watched.

    Attributes:
        seconds: of flying well before the update counts as good. ready_limit: seconds until READY.
    """

    bundle: Bundle
    place: Place = field(default_factory=Place)
    seconds: float = 60.0
    ready_limit: float = 300.0

    @property
    def root(self) -> Path:
        """The bundle's folder."""
        return self.bundle.root.resolve()

    @property
    def folder(self) -> str:
        """Its name in a drone's store."""
        return folder_name(self.bundle)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """What is copied."""
        return pieces_of(self.bundle)


@dataclass(frozen=True)
class Outcome:
    """How the update of a drone ended.

    Attributes:
        host: as it was named. bundle: folder name in the store. before: what was current, None for nothing.
        reason: why it did not end well, one line. said: the drone's own last lines.
        stands: in words, what the drone flies now. watched: seconds that the bundle was seen to fly.
    """

    host: str
    result: Result
    bundle: str
    before: str | None = None
    reason: str = ""
    said: tuple[str, ...] = ()
    stands: str = ""
    watched: float = 0.0


class Update:
    """One drone. `outcome` holds at every moment how it would end if it were broken off now."""

    def __init__(self, connection: Connection, plan: Plan, show: Callable[[str], None]) -> None:
        self.outcome = Outcome(connection.address.name, "stopped", plan.folder, stands="not touched")
        self._connection, self._plan, self._show = connection, plan, show
        self._before = Look()

    def run(self) -> Outcome:
        """Do all of it.

        Raises:
            KeyboardInterrupt: broken off by Ctrl-C; `outcome.stands` says where the drone stands.
        """
        try:
            return self._run()
        except KeyboardInterrupt:
            self._end("stopped")
            raise

    def _run(self) -> Outcome:
        try:
            self._look_first()
            if self._flies_already():
                return self._end("flew already", stands=f"flies {self._plan.folder}")
            self._copy()
            self._install()
        except UserError as error:
            return self._end("refused", reason=str(error))
        try:
            return self._start_and_watch()
        except UserError as error:
            return self._end("unknown", reason=str(error))

    def _look_first(self) -> None:
        """Whether all that will be needed is there and allowed, before anything is done."""
        place, name = self._plan.place, self._connection.address.name
        ready = read_look(self._connection.ask(ready_words(place)).lines, place)
        if ready.missing:
            remedy = "install the drone's software there (docs/drone.md)"
            raise refuse(name, f"has no command {', '.join(ready.missing)}", remedy)
        if ready.forbidden:
            raise refuse(name, f"sudo does not allow, without a password: {ready.forbidden[0]}", _SETUP)
        if not ready.has_staging:
            raise refuse(name, f"{place.staging} is not there, or not ours to write", _SETUP)
        self._before = self._look()
        if self._before.load != "loaded":
            found = f"the service is {self._before.load or 'not to be seen'} there"
            raise refuse(name, found, "install the drone's software there (docs/drone.md)")
        self._note(before=self._before.current, stands=self._as_before())
        page = f", page {self._before.page.status}" if self._before.page.status else ""
        self._show(f"{self._as_before()}; service {self._before.active} ({self._before.sub}){page}")

    def _flies_already(self) -> bool:
        before, folder = self._before, self._plan.folder
        return before.current == folder == before.started and before.active == "active" and not before.starts

    def _copy(self) -> None:
        self._note(stands=f"{self._as_before()}; what was copied is kept, and the same command goes on with it")
        copy_bundle(self._connection, self._plan.root, self._plan.pieces, self._plan.place, self._show)

    def _install(self) -> None:
        """Verify, golden frames, switch: the drone's own command does it, and is asked again where the line broke."""
        after = "if it finishes installing by itself, it flies the new one from its next start"
        self._note(stands=f"{self._as_before()}; {after} (skylight-detect bundles there says)")
        self._show("installing: verified there, golden frames, which take minutes where an engine is built")
        answer = self._insist(install_words(self._plan.place))
        folder = read_folder(answer.lines) if answer.status == 0 else None
        if folder == self._plan.folder:
            self._note(stands=f"flies {self._flown()} until its next start, {folder} from then on")
            self._show(f"installed: {folder} is current")
            return
        self._tidy()
        self._note(stands=self._as_before())
        if folder is not None:
            found = f"installed {folder}, which somebody else was copying there"
            raise refuse(self._connection.address.name, found, "agree on who updates this drone, and push again")
        raise UserError(f"{self._connection.address.name}: {_without_name(answer.last)}")

    def _insist(self, words: tuple[str, ...]) -> Answer:
        """Ask until there is an answer; what the line broke under goes on over there, and is waited for."""
        begin = time.monotonic()
        silent: float | None = None
        while True:
            now = time.monotonic()
            try:
                answer = self._connection.ask(words)
                silent = None
                if not any(_BUSY in line for line in answer.lines) or now - begin > _BUSY_LIMIT:
                    return answer
            except LostError:
                silent = now if silent is None else silent
                if now - silent > _SILENCE:
                    raise
            time.sleep(EVERY)

    def _start_and_watch(self) -> Outcome:
        plan = self._plan
        words = f"{shlex.join(rollback_words(plan.place))} && {shlex.join(RESTART)}"
        by_hand = f"ssh {self._connection.address.name} {shlex.quote(words)}"
        self._note(stands=f"flies {plan.folder} now or from its next start; taken back by: {by_hand}")
        self._tidy()
        answer = self._insist(RESTART)
        if answer.status != 0:
            return self._take_back(f"the service could not be restarted: {answer.last}")
        self._show(f"restarted; watching for {plan.seconds:.0f} s from READY")
        judge = Judge(plan.folder, self._before, plan.seconds, plan.ready_limit)
        problem = self._watch(judge)
        if problem is not None:
            return self._take_back(problem)
        return self._end("flies", stands=f"flies {plan.folder}")

    def _watch(self, judge: Judge) -> str | None:
        """Look until the judge is content, or says why not. Raises LostError where the drone stays silent."""
        answered = time.monotonic()
        while True:
            try:
                look = self._look()
                answered = time.monotonic()
                problem, news = judge.take(look, answered)
                self._note(watched=round(judge.watched, 1))
                for text in news:
                    self._show(text)
                if problem is not None or judge.is_done:
                    return problem
            except LostError:
                if time.monotonic() - answered > _SILENCE:
                    raise
            time.sleep(EVERY)

    def _take_back(self, reason: str) -> Outcome:
        """The bundle before flies again. The service is stopped first, lest it goes back by itself meanwhile."""
        self._show(f"FAILED: {reason}; taking it back")
        stopped = f"Taking {self._plan.folder} back is under way; stopped now, the drone may fly nothing."
        said = self._insist(JOURNAL)
        self._note(reason=reason, said=said.lines if said.status == 0 else (f"its journal: {said.last}",))
        before = self._outcome_before()
        by_hand = f"ssh {self._connection.address.name} {shlex.quote(shlex.join(RESTART))}"
        self._note(stands=f"service stopped, or about to be; what is current there then flies by: {by_hand}")
        with self._connection.unbroken(stopped):
            self._insist(STOP)
            problem = self._roll_back()
            self._insist(RESET)
            current = self._look_until_seen().current
            if problem or current == self._plan.folder:
                found = f"{reason}; not taken back: {problem}"
                return self._end("unknown", reason=found, stands="flies nothing: stopped")
            state = self._before.active or "down"
            if state not in _UP:
                return self._end("rolled back", stands=f"service stopped (it was {state} before), current is {current}")
            self._insist(RESTART)
        if state != "active":  # it may never come up, as it did not before
            return self._end("rolled back", stands=f"service started (it was {state} before), current is {current}")
        return self._back(reason, current, before)

    def _roll_back(self) -> str:
        """Take the bundle back, once: where the line broke it may be done, and a second time would take the good one.

        Returns why it is not taken back, or nothing.
        """
        begin = time.monotonic()
        while self._look_until_seen().current == self._plan.folder:
            try:
                answer = self._connection.ask(rollback_words(self._plan.place))
            except LostError:
                answer = Answer(0, ())
            is_busy = any(_BUSY in line for line in answer.lines)
            if answer.status != 0 and not is_busy:
                return _without_name(answer.last)
            if time.monotonic() - begin > _BUSY_LIMIT:
                return "it is still current"
            if is_busy:
                time.sleep(EVERY)
        return ""

    def _look_until_seen(self) -> Look:
        """How the drone is now, asked until it says so. Raises LostError where it stays silent."""
        begin = time.monotonic()
        while True:
            try:
                return self._look()
            except LostError:
                if time.monotonic() - begin > _SILENCE:
                    raise
            time.sleep(EVERY)

    def _back(self, reason: str, current: str | None, before: str | None) -> Outcome:
        """Wait until what flew before flies again."""
        end = time.monotonic() + self._plan.ready_limit
        stands = f"was told to fly {current} again, and was not seen to"
        self._note(result="unknown", stands=stands)
        look = self._look_until_seen()
        while time.monotonic() < end and not (look.active == "active" and look.started == current):
            time.sleep(EVERY / 2)
            look = self._look_until_seen()
        if look.active != "active":
            return self._end("unknown", reason=f"{reason}; taken back, but the service is {look.active}", stands=stands)
        more = "" if current == before else f", not {before}"
        return self._end("rolled back", stands=f"flies {current} again{more}")

    def _look(self) -> Look:
        """How the drone is now. Raises LostError where it does not say in time."""
        answer = self._connection.ask(look_words(self._plan.place))
        look = read_look(answer.lines, self._plan.place)
        if not look.active and not look.load:
            raise LostError(
                str(refuse(self._connection.address.name, f"no answer to a look ({answer.last})", "try again"))
            )
        return look

    def _tidy(self) -> None:
        """Remove the copy; what is left of it costs nothing but room."""
        try:
            self._connection.ask(remove_words(self._plan.place))
        except LostError:
            self._show(f"the copy in {self._plan.place.incoming} could not be removed")

    def _outcome_before(self) -> str | None:
        """What a rollback should bring."""
        before = self._before
        return before.previous if before.current == self._plan.folder else before.current

    def _flown(self) -> str:
        return self._before.current or "nothing"

    def _as_before(self) -> str:
        is_up = self._before.active == "active"
        return f"flies {self._flown()}" if is_up else f"flies nothing, {self._flown()} is current"

    def _note(self, **changes: object) -> None:
        self.outcome = replace(self.outcome, **changes)  # type: ignore[arg-type]

    def _end(self, result: Result, **changes: object) -> Outcome:
        self._note(result=result, **changes)
        return self.outcome


def _without_name(line: str) -> str:
    """The drone's command names itself first."""
    return line.removeprefix("skylight-detect: ")[:600]
