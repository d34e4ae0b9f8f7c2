"""What is said to the autopilot, as MAVLink 2 messages of the dialect `common`. Knows nothing of lines and threads.

pymavlink, which makes them, is LGPL-3.0: imported, never copied. It is loaded when there is an autopilot to speak to;
2.4.41 is a version that runs on Python 3.6.
"""

import math
import struct
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from deploy.errors import refuse
from deploy.frame import Detections, Track
from deploy.geometry import Aim

# In the range that common.xml leaves to private use (MAV_TUNNEL_PAYLOAD_TYPE: "Values greater than 32767").
TUNNEL_TYPE = 33491
_TUNNEL_HEAD, _TUNNEL_ROW, _TUNNEL_BYTES = struct.Struct("<BBHI"), struct.Struct("<BB4H"), 128
_MOST_ROWS = (_TUNNEL_BYTES - _TUNNEL_HEAD.size) // _TUNNEL_ROW.size
_TUNNEL_VERSION = 1
_BUFFERED = 1 << 16  # bytes, after which what pymavlink has read already is thrown away
_SIGNING_EPOCH = 1420070400  # 2015-01-01, from which MAVLink signatures count in 10 microseconds


def import_mavlink() -> Any:
    """The dialect. Raises UserError where pymavlink is missing."""
    try:
        from pymavlink.dialects.v20 import common
    except ImportError:
        raise refuse("pymavlink", "not installed", "pip install pymavlink, or set connection = none") from None
    return common


class Speaker:
    """Turns messages into bytes and bytes into messages, for one thread.

    write: takes the bytes of a message, returns whether they went. signing_key: 32 bytes, None without signatures;
    with it, what is not signed with it is not heard. on_sent: told of every message that went, as a dict.
    """

    def __init__(
        self,
        system: int,
        component: int,
        write: Callable[[bytes], bool],
        signing_key: Optional[bytes] = None,
        on_sent: Optional[Callable[[Dict[str, Any]], None]] = None,
    ) -> None:
        self.dialect = import_mavlink()
        self.ids = (system, component)
        self._write, self._on_sent = write, on_sent
        self._parser = self.dialect.MAVLink(None, srcSystem=system, srcComponent=component)
        self._parser.robust_parsing = True
        self.sent: Dict[str, int] = {}
        self.heard = self.garbage = 0
        if signing_key is not None:
            self._parser.signing.secret_key = signing_key
            self._parser.signing.sign_outgoing = True
            self.keep_signing_time()

    def say(self, message: Any) -> bool:
        """Send a message; returns whether it went."""
        went = self._write(message.pack(self._parser))
        self._parser.seq = (self._parser.seq + 1) % 256
        if went:
            name = message.get_type()
            self.sent[name] = self.sent.get(name, 0) + 1
            if self._on_sent is not None:
                self._on_sent(message.to_dict())
        return went

    def hear(self, data: bytes) -> List[Any]:
        """The messages that end in these bytes, those of others only; whatever is no message is counted."""
        found = []
        for message in self._parser.parse_buffer(data) or ():
            kind = message.get_type()
            if kind == "BAD_DATA":
                self.garbage += 1
            elif not kind.startswith("UNKNOWN"):
                self.heard += 1
                if (message.get_srcSystem(), message.get_srcComponent()) != self.ids:
                    found.append(message)
        if self._parser.buf_index > _BUFFERED:
            self._parser.buf, self._parser.buf_index = self._parser.buf[self._parser.buf_index :], 0
        return found

    def keep_signing_time(self) -> None:
        """Move the time of signatures on with the clock on the wall, never back."""
        now = int((time.time() - _SIGNING_EPOCH) * 1e5)
        self._parser.signing.timestamp = max(self._parser.signing.timestamp, now)

    def heartbeat(self, state: str) -> Any:
        """state: BOOT, ACTIVE, CRITICAL or POWEROFF of MAV_STATE."""
        mavlink = self.dialect
        return mavlink.MAVLink_heartbeat_message(
            mavlink.MAV_TYPE_ONBOARD_CONTROLLER,
            mavlink.MAV_AUTOPILOT_INVALID,
            0,
            0,
            getattr(mavlink, "MAV_STATE_" + state),
            3,
        )

    def timesync(self, theirs: int, ours: int) -> Any:
        """A request (theirs 0, ours now) or an answer (theirs now, ours theirs), nanoseconds."""
        return self.dialect.MAVLink_timesync_message(theirs, ours)

    def landing_target(self, track: Track, aim: Aim, time_usec: int, angles: Tuple[float, float]) -> Any:
        """Where the target is: place and distance where they are known, else angles alone.

        https://mavlink.io/en/services/landing_target.html; ArduPilot takes MAV_FRAME_BODY_FRD alone, and needs the
        distance beside the place (libraries/AC_PrecLand/AC_PrecLand_MAVLink.cpp). The quaternion is all zeros, no
        rotation: how the target is turned does not show in a box.
        """
        mavlink = self.dialect
        is_valid = aim.position is not None and not track.is_bridging
        x, y, z = aim.position if is_valid and aim.position is not None else (0.0, 0.0, 0.0)
        distance = aim.distance if is_valid and aim.distance is not None else 0.0
        return mavlink.MAVLink_landing_target_message(
            time_usec,
            target_number(track.number),
            mavlink.MAV_FRAME_BODY_FRD,
            angles[0],
            angles[1],
            distance,
            aim.size_x,
            aim.size_y,
            x,
            y,
            z,
            (0.0, 0.0, 0.0, 0.0),
            mavlink.LANDING_TARGET_TYPE_VISION_OTHER,
            int(is_valid),
        )

    def named_values(self, milliseconds: int, detections: Detections, age: float, target: int) -> List[Any]:
        """What was found as NAMED_VALUE messages: det_count, det_score, det_age (ms), det_target."""
        whole, real = self.dialect.MAVLink_named_value_int_message, self.dialect.MAVLink_named_value_float_message
        stamp, best = milliseconds & 0xFFFFFFFF, float(detections.scores[0]) if len(detections.scores) else 0.0
        return [
            whole(stamp, b"det_count", len(detections.scores)),
            real(stamp, b"det_score", best),
            real(stamp, b"det_age", age * 1000),
            whole(stamp, b"det_target", target),
        ]

    def tunnel(self, system: int, component: int, frame: int, detections: Detections, age: float) -> Any:
        """What was found as a TUNNEL message; `tunnelled` reads it."""
        count = len(detections.scores)
        data = _TUNNEL_HEAD.pack(_TUNNEL_VERSION, min(count, 255), min(int(age * 1000), 65535), frame & 0xFFFFFFFF)
        for box, score, label in list(zip(detections.boxes, detections.scores, detections.classes))[:_MOST_ROWS]:
            corners = [int(min(max(round(float(value)), 0), 65535)) for value in box]
            data += _TUNNEL_ROW.pack(min(int(label), 255), min(round(255 * float(score)), 255), *corners)
        payload = list(data) + [0] * (_TUNNEL_BYTES - len(data))
        return self.dialect.MAVLink_tunnel_message(system, component, TUNNEL_TYPE, len(data), payload)


def tunnelled(payload: bytes) -> Dict[str, Any]:
    """What a TUNNEL payload of TUNNEL_TYPE says: frame, age (ms), count, and the best rows: class, score, box.

    Raises ValueError for one of another version.
    """
    version, count, age, frame = _TUNNEL_HEAD.unpack_from(payload)
    if version != _TUNNEL_VERSION:
        raise ValueError("version {} of detections, this reads {}".format(version, _TUNNEL_VERSION))
    rows = [
        {"class": row[0], "score": row[1] / 255, "box": list(row[2:])}
        for row in _TUNNEL_ROW.iter_unpack(payload[_TUNNEL_HEAD.size :])
    ]
    return {"frame": frame, "age": age, "count": count, "detections": rows}


def target_number(number: int) -> int:
    """A track's number as the 8 bits of target_num: 1 to 255, and from 1 again."""
    return (number - 1) % 255 + 1


def body_angles(aim: Aim) -> Optional[Tuple[float, float]]:
    """The angles that a camera looking down, top forward, would see; None for what it could not.

    ArduPilot takes (-tan(angle_y), tan(angle_x), 1) for the direction in the body (AC_PrecLand_MAVLink.cpp).
    """
    forward, right, down = aim.ray
    if down < 0.02:
        return None
    return math.atan(right / down), math.atan(-forward / down)


def read_signing_key(path: Path) -> bytes:
    """The 32 bytes of a key file. Raises UserError."""
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except OSError as error:
        raise refuse(path, error.strerror or str(error), "give the file of the signing key") from None
    except ValueError:
        key = b""
    if len(key) != 32:
        raise refuse(path, "is no signing key", "write 64 hexadecimal digits, the same as in the autopilot")
    return key
