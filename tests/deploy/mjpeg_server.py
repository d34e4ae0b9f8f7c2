"""A camera on the network, run as a process: python mjpeg_server.py PORT [FRAMES]

Motion JPEG over HTTP, 50 frames a second, whose brightness is their number; after FRAMES of them it sends nothing more
and keeps the line. Prints "ready", then "opened" and "closed" with each client.
"""

import http.server
import select
import sys
import time

import cv2
import numpy as np


class Handler(http.server.BaseHTTPRequestHandler):
    frames = 0

    def do_GET(self) -> None:
        print("opened", flush=True)
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        number = 0
        try:
            while not self.frames or number < self.frames:
                image = np.full((48, 64, 3), 20 + 2 * (number % 100), np.uint8)
                jpeg = cv2.imencode(".jpg", image)[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
                self.wfile.write(head + jpeg + b"\r\n")
                number += 1
                time.sleep(0.02)
            while not select.select([self.connection], [], [], 0.05)[0]:
                pass
        except OSError:
            pass
        print("closed", flush=True)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    Handler.frames = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    http.server.ThreadingHTTPServer.daemon_threads = True
    with http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler) as server:
        print("ready", server.server_port, flush=True)
        server.serve_forever()
