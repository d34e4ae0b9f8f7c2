"""kill -9 at random moments: what was synced is there, and nothing unreadable comes after it."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from colour_model import write_colour_bundle

from deploy.flightlog.reading import FlightRecords
from deploy.flightlog.segments import flights, segments
from deploy.pictures import read_picture

_WRITER = """
import sys, time
sys.path[:0] = sys.argv[3:]
import numpy as np
from pathlib import Path
from flown import new_log, observation, detections
from deploy.bundle import read_bundle
import deploy.flightlog.part as part
part._BATCH = 0.01
noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8)
log = new_log(Path(sys.argv[1]), read_bundle(Path(sys.argv[2])), segment=0.05, keep=600)
print("ready", flush=True)
number = 0
while True:
    log.publish(observation(number, detections(((10.0, 10.0, 30.0, 30.0), 0.61 + 0.3 * (number % 2), 0)), noise))
    number += 1
    print(log.flight.name if log.flight else "-", log.synced, flush=True)
    time.sleep(0.001)
"""
_KILLS = 8


def test_what_was_synced_survives_a_kill_at_any_moment(tmp_path):
    seed = int(os.environ.get("SKYLIGHT_SEED", time.time()))
    print("seed", seed)
    chance = random.Random(seed)
    bundle = write_colour_bundle(tmp_path / "colours-1").root
    log = tmp_path / "log"
    places = [str(Path(__file__).parent), str(Path(__file__).resolve().parents[2])]
    promised = {}
    for _ in range(_KILLS):
        command = [sys.executable, "-c", _WRITER, str(log), str(bundle), *places]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for line in process.stdout:
            if line.split()[1] != "0":
                break  # from here on something is promised
        timer_end = time.monotonic() + chance.uniform(0, 1)
        while time.monotonic() < timer_end:
            line = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().splitlines()
        process.wait()
        for said in [line.rstrip("\n"), *rest]:
            parts = said.split()
            if len(parts) == 2 and parts[0] != "-" and parts[1].isdecimal():
                promised[parts[0]] = int(parts[1])
    assert len(flights(log)) == _KILLS == len(promised)
    assert sum(promised.values()) > _KILLS
    for _, flight in flights(log):
        read = FlightRecords(flight)
        records = [record for record in read if record["type"] != "header"]
        assert read.header["bundle"]["name"] == "colours"
        assert len(records) >= promised[flight.name], f"seed {seed}: {flight.name}"
        assert [record["n"] for record in records] == list(range(len(records)))
        # A torn line can only be the very last; a kill, unlike a power cut, leaves all that was written before.
        last = segments(flight)[-1].path.name
        assert len(read.problems) <= 1
        assert all(problem.startswith(f"{last}: the last line is torn") for problem in read.problems)
        pictures = [path for path in (flight / "frames").glob("*.jpg") if not path.name.startswith(".")]
        for picture in pictures:
            assert read_picture(picture).shape == (120, 160, 3)
            assert picture.with_suffix(".json").exists()
