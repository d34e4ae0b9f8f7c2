"""Acts as an autopilot, in a process of its own: heartbeats, TIMESYNC; prints every message it decodes as JSON.

    fake_autopilot.py udp PORT | udpto PORT | serial DEVICE   [signing key]

Standard input takes lines: `jump SECONDS` moves its clock, `mute` and `speak` its heartbeats, `garbage BYTES SEED`
sends noise, `ask` asks for our time.
"""

import json
import os
import random
import select
import socket
import sys
import time

from pymavlink.dialects.v20 import common

HEARTBEAT = 0.2  # seconds


class Line:
    def __init__(self, kind: str, place: str) -> None:
        self.socket, self.peer = None, None
        if kind == "serial":
            import tty

            self.file = os.open(place, os.O_RDWR | os.O_NOCTTY)
            tty.setraw(self.file)
            return
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if kind == "udp":
            self.socket.bind(("127.0.0.1", int(place)))
        else:
            self.peer = ("127.0.0.1", int(place))
        self.file = self.socket.fileno()

    def read(self) -> bytes:
        if self.socket is None:
            return os.read(self.file, 4096)
        try:
            data, self.peer = self.socket.recvfrom(4096)
        except ConnectionRefusedError:
            return b""
        return data

    def write(self, data: bytes) -> None:
        if self.socket is None:
            os.write(self.file, data)
        elif self.peer is not None:
            self.socket.sendto(data, self.peer)


def main() -> None:
    line, offset, speaks, beat = Line(*sys.argv[1:3]), 1000.0, True, 0.0
    mavlink = common.MAVLink(None, srcSystem=1, srcComponent=1)
    mavlink.robust_parsing = True
    if len(sys.argv) > 3:
        mavlink.signing.secret_key = bytes.fromhex(sys.argv[3])
        mavlink.signing.sign_outgoing = True
        mavlink.signing.timestamp = int((time.time() - 1420070400) * 1e5)

    def now() -> int:
        return int((time.monotonic() + offset) * 1e9)

    def send(message: common.MAVLink_message) -> None:
        line.write(message.pack(mavlink))
        mavlink.seq = (mavlink.seq + 1) % 256

    print(json.dumps({"kind": "READY"}), flush=True)
    while True:
        ready = select.select([line.file, sys.stdin], [], [], 0.02)[0]
        if speaks and time.monotonic() - beat > HEARTBEAT:
            beat = time.monotonic()
            send(
                common.MAVLink_heartbeat_message(
                    common.MAV_TYPE_QUADROTOR, common.MAV_AUTOPILOT_ARDUPILOTMEGA, 0, 0, 4, 3
                )
            )
        if sys.stdin in ready:
            words = sys.stdin.readline().split()
            if not words:
                return
            if words[0] == "jump":
                offset += float(words[1])
            elif words[0] in ("mute", "speak"):
                speaks = words[0] == "speak"
            elif words[0] == "garbage":
                line.write(random.Random(int(words[2])).randbytes(int(words[1])))
            elif words[0] == "ask":
                send(common.MAVLink_timesync_message(0, now()))
        if line.file not in ready:
            continue
        arrived = now()
        for message in mavlink.parse_buffer(line.read()) or ():
            if message.get_type() == "TIMESYNC" and message.tc1 == 0 and speaks:
                send(common.MAVLink_timesync_message(arrived, message.ts1))
            row = {"kind": message.get_type(), "arrived": arrived, "monotonic": time.monotonic()}
            if row["kind"] == "BAD_DATA" or row["kind"].startswith("UNKNOWN"):  # of which no checksum is known
                row["kind"] = "BAD_DATA"
            else:
                fields = {name: getattr(message, name) for name in message.get_fieldnames()}
                row["from"] = [message.get_srcSystem(), message.get_srcComponent()]
                row["version"], row["signed"] = message.get_msgbuf()[0], message.get_signed()
                row.update({name: v.decode() if isinstance(v, bytes) else v for name, v in fields.items()})
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
