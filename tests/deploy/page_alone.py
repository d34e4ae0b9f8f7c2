"""Run under an old Python: serves the page, asks it a few things, and prints the answers as JSON."""

import contextlib
import json
import socket
import struct
import threading
import time
import urllib.request

import numpy as np

from deploy.events import Events
from deploy.frame import Detections, Frame, Observation
from deploy.web import WebSettings, open_web

events = Events(stream=None)
status = {"heat": {"temperatures": {"GPU-therm": 41.5}}}
web = open_web(WebSettings(port=0), ("square",), lambda: status, events)
assert web is not None
address = web.address
found = Detections(np.array([[1, 2, 30, 40]], np.float32), np.array([0.5], np.float32), np.array([0]))
frame = Frame(3, time.monotonic(), None, np.zeros((48, 64, 3), np.uint8), "x")
web.publish(Observation(frame, found, (), 0.01, 0.3, 0, (32, 32), {"network": 2.0}))


def get(path):
    return urllib.request.urlopen(address + path, timeout=10).read()


message = get("/api/frame")
(length,) = struct.unpack(">I", message[:4])
boxes = json.loads(message[4 : 4 + length].decode())["boxes"]
temperature_is_there = b'skylight_temperature_celsius{zone="GPU-therm"} 41.5' in get("/metrics")

client = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=10)
client.sendall(
    b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
)
answer = b""
try:
    for part in iter(lambda: client.recv(65536), b""):
        answer += part
except ConnectionResetError:
    pass


def wait():
    with contextlib.suppress(OSError):  # closed while it waits
        get("/api/frame?after=1")


threading.Thread(target=wait, daemon=True).start()
time.sleep(0.3)
print(json.dumps([boxes, message[4 + length : 6 + length].hex(), get("/healthz").decode(), temperature_is_there]))
web.close()
print(answer[9:12].decode(), answer.count(b"HTTP/1.1"), [event.kind for event in events.newest()])
