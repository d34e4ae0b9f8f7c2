"""The settings of the line to the autopilot."""

from typing import NamedTuple, Optional, Tuple

from deploy.errors import refuse
from deploy.settings import require_ranges

ANGLES = ("body", "image")
DETECTIONS = ("none", "named", "tunnel")


class MavlinkSettings(NamedTuple):
    """The line to the autopilot.

    connection: none, a serial line (/dev/ttyTHS1,921600), udpout:HOST:PORT or udpin:HOST:PORT
    system, component: MAVLink ids of this computer, 1 to 255; 191 is an onboard computer
    rate: LANDING_TARGET messages a second, at most, 1 to 100
    max_bridge: seconds for which a target that is not seen is still told, 0 to 5
    classes: names of classes that are told, all of them where empty
    angles: body, as ArduPilot takes them, seen by a camera that looks down, or image, from the middle of the picture
    detections: none, named or tunnel: what was found, for a log, in NAMED_VALUE messages or as TUNNEL
    detections_rate: of these, times a second, 0.1 to 50
    link_timeout: seconds without a heartbeat of the autopilot after which the link is lost, 1 to 60
    signing_key: file with the 64 hexadecimal digits of a MAVLink 2 signing key, or none
    """

    connection: Optional[str] = None
    system: int = 1
    component: int = 191
    rate: float = 20.0
    max_bridge: float = 0.3
    classes: Tuple[str, ...] = ()
    angles: str = "body"
    detections: str = "none"
    detections_rate: float = 2.0
    link_timeout: float = 5.0
    signing_key: Optional[str] = None

    def check(self) -> None:
        """Raise UserError for what is out of range."""
        require_ranges(self, system=(1, 255), component=(1, 255), rate=(1, 100), max_bridge=(0, 5))
        require_ranges(self, detections_rate=(0.1, 50), link_timeout=(1, 60))
        for name, allowed in (("angles", ANGLES), ("detections", DETECTIONS)):
            if getattr(self, name) not in allowed:
                raise refuse("{}={}".format(name, getattr(self, name)), "unknown", "allowed: " + ", ".join(allowed))
