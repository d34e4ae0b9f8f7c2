"""A stand-in for systemctl and for the systemd behind it, for one service: Type=notify, restarted when it dies.

systemctl_stand_in.py FOLDER WORDS...      as systemctl(1); `run` in place of WORDS is the manager itself
FOLDER/service.json                        the state, FOLDER/journal what the service prints
FOLDER/command.json                        the words that start the service
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

BURST = 1000  # starts, more than a test lives: the unit knows no limit
DOWN = {
    "LoadState": "loaded",
    "ActiveState": "inactive",
    "SubState": "dead",
    "NRestarts": 0,
    "MainPID": 0,
    "manager": 0,
}


def read(folder: Path) -> dict:
    try:
        return json.loads((folder / "service.json").read_text())
    except OSError:
        return dict(DOWN)


def write(folder: Path, **changes: object) -> None:
    with (folder / "service.lock").open("w") as lock:  # two of us change it: systemctl and the manager
        fcntl.flock(lock, fcntl.LOCK_EX)
        part = folder / f"service.{os.getpid()}"
        part.write_text(json.dumps(read(folder) | changes))
        part.rename(folder / "service.json")


def manage(folder: Path) -> None:
    """Start the service until it ends well, or too often otherwise; SIGTERM stops it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    os.chdir(folder)  # the path of a socket must be short
    Path("notify").unlink(missing_ok=True)
    listener.bind("notify")
    listener.settimeout(0.05)
    is_asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: is_asked.append(1))
    environment = os.environ | {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "5000000"}
    words = json.loads(Path("command.json").read_text())
    for number in range(BURST):
        with Path("journal").open("ab") as journal:
            process = subprocess.Popen(words, stdout=journal, stderr=journal, env=environment)
        write(folder, ActiveState="activating", SubState="start", MainPID=process.pid, NRestarts=number)
        while process.poll() is None:
            try:
                if b"READY=1" in listener.recv(4096):
                    write(folder, ActiveState="active", SubState="running")
            except TimeoutError:
                pass
            if is_asked:
                process.terminate()
                process.wait()
        if is_asked or process.returncode in (0, 130):
            write(folder, ActiveState="inactive", SubState="dead", MainPID=0)
            return
        write(folder, ActiveState="activating", SubState="auto-restart", MainPID=0)
        time.sleep(0.5)
    write(folder, ActiveState="failed", SubState="failed", MainPID=0)


def stop(folder: Path) -> None:
    manager = read(folder)["manager"]
    if manager:
        try:
            os.kill(manager, signal.SIGTERM)
            while True:  # it is init's child, which takes it away
                os.kill(manager, 0)
                time.sleep(0.02)
        except ProcessLookupError:
            pass
    write(folder, manager=0)


def main(folder: Path, words: list[str]) -> int:
    if words == ["run"]:
        manage(folder)
        return 0
    assert "skylight-detect.service" in words, words
    if words[0] == "show":
        for key, value in read(folder).items():
            print(f"{key}={value}")
        return 0
    if words[0] == "reset-failed":
        if read(folder)["ActiveState"] == "failed":
            write(folder, **DOWN)
        return 0
    stop(folder)
    if "restart" in words:
        nothing = subprocess.DEVNULL
        command = [sys.executable, __file__, str(folder), "run"]
        write(folder, ActiveState="activating", SubState="start", NRestarts=0, MainPID=0)
        # Twice, so that nobody here has it as a child.
        starter = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:], stdout=-3, start_new_session=True).pid)"
        made = subprocess.run(
            [sys.executable, "-c", starter, *command], stdin=nothing, stdout=subprocess.PIPE, stderr=nothing, check=True
        )
        write(folder, manager=int(made.stdout))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
