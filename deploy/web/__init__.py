"""The page on which people watch the drone: newest picture with boxes, its age, what every part says, metrics.

A thread of its own serves it; the flight loop only puts the newest observation into a slot. Knows nothing of cameras
or networks, and never tells the drone to do anything: every request reads.
"""

import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Sequence

from deploy.errors import refuse
from deploy.events import Events
from deploy.web.settings import WebSettings

if TYPE_CHECKING:
    from deploy.web.server import Web

__all__ = ["WebSettings", "open_web"]


def open_web(
    settings: WebSettings,
    classes: Sequence[str],
    status: Callable[[], Dict[str, Any]],
    events: Events,
    clock: Callable[[], float] = time.monotonic,
) -> Optional["Web"]:
    """Serve the page as the settings want it; None where they want none.

    classes: names by class index. status: JSON values of every part by its name, called in the server's thread.
    Raises UserError where Tornado is missing, the token is missing or too short, or the address cannot be had.
    """
    if not settings.enabled:
        return None
    try:
        from deploy.web.server import Web
    except ImportError as error:
        if (error.name or "").split(".")[0] != "tornado":
            raise
        remedy = "pip install 'tornado>=6.1', or enabled = no in [web]"
        raise refuse("tornado", "not installed, and [web] is enabled", remedy) from None
    return Web(settings, classes, status, events, clock)
