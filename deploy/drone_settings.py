"""All sections of a drone's settings file, by name. Knows nothing of what they mean."""

from typing import Any, Dict

from deploy.autopilot.settings import MavlinkSettings
from deploy.backends.settings import NetworkSettings
from deploy.flightlog.settings import LogSettings
from deploy.geometry import GeometrySettings
from deploy.health.settings import HealthSettings
from deploy.life.start import LifeSettings
from deploy.loop import LoopSettings
from deploy.sources import SourceSettings
from deploy.tracks import TrackSettings
from deploy.web.settings import WebSettings

SECTIONS: Dict[str, Any] = {
    "source": SourceSettings,
    "network": NetworkSettings,
    "loop": LoopSettings,
    "tracks": TrackSettings,
    "geometry": GeometrySettings,
    "mavlink": MavlinkSettings,
    "health": HealthSettings,
    "web": WebSettings,
    "log": LogSettings,
    "life": LifeSettings,
}
