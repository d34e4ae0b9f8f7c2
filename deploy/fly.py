"""`skylight-detect fly`: what the service runs. Settings, bundle, network, golden frames, camera, and then the loop."""

import argparse
import contextlib
import faulthandler
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Type

from deploy.autopilot.part import MavlinkPart
from deploy.backends import Networks, open_networks
from deploy.bundle import Bundle, read_bundle
from deploy.drone_settings import SECTIONS
from deploy.errors import UserError
from deploy.events import Events
from deploy.flightlog.part import FlightLog
from deploy.geometry import Sight
from deploy.health.part import Health
from deploy.life.start import Proving, choose_bundle
from deploy.life.systemd import Notifier, Watchdog
from deploy.loop import Loop
from deploy.orders import OrdersPart
from deploy.part import Part
from deploy.settings import SETTINGS, read_settings, settings_text
from deploy.signature import TRUSTED, PublicKey, trusted_keys
from deploy.sources import Source, open_source, shown_name
from deploy.stop import Stop
from deploy.tracks import Tracker
from deploy.web import open_web

_BUILD_STEP = 120.0  # seconds that one step of building an engine may take before systemd ends it

EXAMPLES = """examples:
  skylight-detect fly
  skylight-detect fly --settings detect.ini --bundle bundles/arch-1
  skylight-detect fly --print-settings > detect.ini

Without --bundle the current one of the installed bundles flies; its start is counted, and after too many that did not
last the one before it comes back.

exit status: 0 stopped, or the source ended; 2 something you can put right (one line says what); 130 stopped while it
started
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what can be asked."""
    text = "settings [{}, where that exists]".format(SETTINGS)
    parser.add_argument("--settings", type=Path, metavar="FILE", help=text)
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="fly this one, installed or not")
    text = "folder of the public keys whose bundles are taken [{}, where that exists]"
    parser.add_argument("--trusted", type=Path, metavar="FOLDER", help=text.format(TRUSTED))
    parser.add_argument("--print-settings", action="store_true", help="print a settings file with every key, and end")


def run(arguments: argparse.Namespace) -> int:
    """Fly a bundle: camera to autopilot, as the settings say, until it is stopped."""
    if arguments.print_settings:
        print(settings_text(SECTIONS), end="")
        return 0
    file = arguments.settings if arguments.settings is not None else SETTINGS if SETTINGS.exists() else None
    settings = read_settings(file, SECTIONS)  # before a start is counted: it is not the bundle's fault
    events, notifier, keys = Events(), Notifier(), trusted_keys(arguments.trusted)
    with contextlib.suppress(RuntimeError, ValueError, OSError):  # where standard error is closed
        faulthandler.enable()  # a hung loop is killed by SIGABRT: the journal shall say where it hung
    folder, proving = _chosen(arguments.bundle, settings, keys, events)
    stop = Stop(is_starting=True, at_last=lambda: _forgive(proving))
    try:
        with _forgiven(proving, KeyboardInterrupt):  # stopped while it starts
            bundle = read_bundle(folder, keys)
            networks = _networks(bundle, settings, events, notifier)
            try:
                with _forgiven(proving, UserError):  # a camera or a port that is not there; golden frames were well
                    flight = Flight(settings, bundle, networks, events, [Watchdog(notifier)] + proving)
                _turn(flight, stop, proving)
            finally:
                networks.close()
    finally:
        stop.restore()
    return 0


class Flight:
    """A loop with all its parts, as the settings want them.

    parts: that every flight has besides, told first. root: folder that holds sys and proc; tests choose another.
    Raises UserError where a part cannot be had; what was opened before is closed then.
    """

    def __init__(
        self,
        settings: Dict[str, Any],
        bundle: Bundle,
        networks: Networks,
        events: Events,
        parts: Sequence[Part] = (),
        root: Path = Path("/"),
        source: Optional[Source] = None,
    ) -> None:
        self.parts: List[Part] = []
        self._settings, self._bundle, self._networks, self._events = settings, bundle, networks, events
        self.source = source
        try:
            self.source = source or open_source(None, settings["source"], bundle.board, events)
            self._add_parts(parts, root)
        except BaseException:
            self.close()
            raise

    def _add_parts(self, parts: Sequence[Part], root: Path) -> None:
        settings, bundle, events = self._settings, self._bundle, self._events
        assert self.source is not None
        health = Health(settings["health"], bundle.board, self._networks.sizes, events, root)
        self.parts.append(health)
        log = FlightLog(settings["log"], bundle, events, about=self._about(), watch=health.status)
        self.parts.append(log)
        autopilot = None
        if settings["mavlink"].connection is not None:
            sight = Sight(settings["geometry"], bundle.classes)
            autopilot = MavlinkPart(settings["mavlink"], sight, bundle.classes, events, on_sent=log.sent)
            self.parts.insert(0, autopilot)  # told first: it waits for nothing
        self.loop = Loop(
            self.source,
            self._networks,
            settings=settings["loop"],
            tracker=Tracker(settings["tracks"]),
            events=events,
            orders=lambda: health.orders,
            budget_ms=bundle.board.get("latency_budget_ms"),
        )
        web = open_web(settings["web"], bundle.classes, self.status, events)
        self.parts += [web] if web is not None else []
        self.parts += [OrdersPart(health, web, autopilot)] + list(parts)
        self.loop.parts = list(self.parts)

    def status(self) -> Dict[str, Any]:
        """What page, metrics and log show, by part; called from any thread."""
        about = {part.name: part.status() for part in list(self.parts) if part.name != "web"}
        vision, bundle = self.loop.vision, self.loop.vision.bundle
        about["loop"] = self.loop.status()
        about["source"] = self.source.status() if self.source is not None else {}
        about["bundle"] = {
            "name": bundle.name,
            "version": bundle.version,
            "model": bundle.models[0].file,
            "trust": bundle.signature.text,
            "backend": vision.backend.name,
            "board": bundle.board["name"],
        }
        return about

    def close(self) -> None:
        """Give everything back, also where a part fails at it; the flight log last: it keeps what the others say."""
        closes = [("source", self.source.close)] if self.source is not None else []
        closes += [(part.name, part.close) for part in sorted(self.parts, key=lambda one: one.name == FlightLog.name)]
        for name, close in closes:
            try:
                close()
            except Exception as error:
                self._events.add("error", "part." + name, "{} failed while it closed: {!r}".format(name, error))
        self.parts = []

    def _about(self) -> Dict[str, Any]:
        """For the head of the flight log."""
        source = shown_name(self._settings["source"].device)
        settings = {name: dict(section._asdict()) for name, section in self._settings.items()}
        settings["source"]["device"] = source
        return {"source": source, "backend": self._networks.own.backend.name, "settings": settings}


def _chosen(
    wanted: Optional[Path], settings: Dict[str, Any], keys: Optional[Sequence[PublicKey]], events: Events
) -> Tuple[Path, List[Part]]:
    """The folder of the bundle, and the parts that say whether its start lasted."""
    if wanted is not None:
        return wanted, []
    life = settings["life"]
    folder = choose_bundle(Path(life.bundles), keys, life.failed_starts, events)
    return folder, [Proving(folder, life.lasting, events)]


def _turn(flight: Flight, stop: Stop, proving: Sequence[Part]) -> None:
    """Fly until it is stopped or the source ends. That is forgiven before anything that may take time is closed."""
    try:
        stop.begin()
        flight.loop.run(stop)
        _forgive(proving)
    finally:
        flight.close()
        flight.loop.close()


@contextlib.contextmanager
def _forgiven(proving: Sequence[Part], kind: Type[BaseException]) -> Iterator[None]:
    """Take the start out of the count where that ends it."""
    try:
        yield
    except kind:
        _forgive(proving)
        raise


def _forgive(parts: Sequence[Part]) -> None:
    for part in parts:
        if isinstance(part, Proving):
            part.forgive()


def _networks(bundle: Bundle, settings: Dict[str, Any], events: Events, notifier: Notifier) -> Networks:
    """Every network that may run, each of which gave its golden frames what they must give."""

    def progress(_what: str, _done: int, _total: int) -> None:
        notifier.extend_start(_BUILD_STEP)

    networks = open_networks(bundle, settings["network"].choice(progress), events)
    try:
        networks.check_golden(events)
    except BaseException:
        networks.close()
        raise
    return networks
