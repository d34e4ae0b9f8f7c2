"""The part of the loop that serves the page, from a thread with an event loop of its own."""

import asyncio
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

from tornado.ioloop import IOLoop, PeriodicCallback
from tornado.netutil import bind_sockets

from deploy.errors import refuse
from deploy.events import Events
from deploy.frame import Observation
from deploy.part import Part
from deploy.web.connections import Guests, Reception, make_server
from deploy.web.door import Door, Request
from deploy.web.pages import Pages
from deploy.web.pictures import Pictures
from deploy.web.settings import WebSettings, is_loopback, read_token

_QUIET = 60.0  # seconds in which refusals are counted, not told again


class Web(Part):
    """The page. `may_stream` may be set from any thread: where it is False, no picture is encoded and the page says so.

    address: where it is served, `http://127.0.0.1:8080`.
    """

    name = "web"

    def __init__(
        self,
        settings: WebSettings,
        classes: Sequence[str],
        status: Callable[[], Dict[str, Any]],
        events: Events,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises UserError where the token will not do or the address cannot be had; then nothing was started."""
        settings.check()
        token = read_token(Path(settings.token_file)) if settings.token_file is not None else None
        is_local = is_loopback(settings.host)
        self._pictures = Pictures(classes, settings.rate, settings.width, settings.quality, clock)
        door = Door(token, is_local, settings.names)
        self._events, self._clock = events, clock
        self._guests = Guests(settings.clients)
        self._pages = Pages(door, self._pictures, status, self.status, events)
        self._reception = Reception(
            door, self._guests, self._pages.is_known, self._pages.answer, self._pages.is_picture, self._failed
        )
        self._told, self._told_at, self._failed_at = 0, -_QUIET, -_QUIET
        self._sockets = _bind(settings)
        host = "[{}]".format(settings.host) if ":" in settings.host else settings.host
        self.address = "http://{}:{}".format(host, self._sockets[0].getsockname()[1])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="web", daemon=True)
        self._thread.start()
        with_token = "with token" if token is not None else "this machine only, no token"
        events.add("info", "web.open", "{} ({})".format(self.address, with_token))

    @property
    def may_stream(self) -> bool:
        """Whether pictures are shown."""
        return self._pictures.may_stream

    @may_stream.setter
    def may_stream(self, is_allowed: bool) -> None:
        self._pictures.may_stream = is_allowed

    def publish(self, observation: Observation) -> None:
        """Put it into the slot; nothing is copied, encoded or woken."""
        self._pictures.put(observation)

    def status(self) -> Dict[str, Any]:
        """Who watches, what it cost, what was refused."""
        return {
            "address": self.address,
            "may_stream": self._pictures.may_stream,
            "watchers": self._guests.watchers(),
            "connections": self._guests.count(),
            "encoded": self._pictures.encoded,
            "refused": self._pages.refused + self._reception.refused,
            "turned_away": self._guests.turned_away,
            "dropped": self._guests.dropped,
        }

    def close(self) -> None:
        """End the thread and close every connection."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=5)

    def _serve(self) -> None:
        """The thread: until `close`."""
        asyncio.set_event_loop(self._loop)
        server = make_server(self._reception)
        server.add_sockets(self._sockets)
        ticking = PeriodicCallback(self._tick, 1000)
        ticking.start()
        self._loop.run_forever()
        ticking.stop()
        server.stop()
        tasks = list(self._reception.tasks)
        for task in tasks:
            task.cancel()
        self._guests.close()
        self._loop.run_until_complete(asyncio.wait(tasks, timeout=2) if tasks else asyncio.sleep(0))
        IOLoop.current().close()

    def _tick(self) -> None:
        self._pictures.count()
        self._guests.tick()
        refused, now = self._pages.refused, self._clock()
        if refused > self._told and now - self._told_at > _QUIET:
            text = "{} requests with a wrong token".format(refused - self._told)
            self._told, self._told_at = refused, now
            self._events.add("warning", "web.refused", text)

    def _failed(self, request: Request, error: Exception) -> None:
        now = self._clock()
        if now - self._failed_at > _QUIET:
            self._failed_at = now
            self._events.add("error", "web.failed", "{}: {}: {}".format(request.path, type(error).__name__, error))


def _bind(settings: WebSettings) -> List[socket.socket]:
    try:
        return bind_sockets(settings.port, settings.host)
    except OSError as error:  # the name cannot be found, too
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        place = "[web] host={} port={}".format(settings.host, settings.port)
        raise refuse(place, reason, "end who has it, or set another port or an address of this machine") from None
