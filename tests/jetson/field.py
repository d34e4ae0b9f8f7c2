"""A drone in the field: a folder behind a real sshd, with the real `skylight-detect` in it.

Stand-ins are sudo, systemctl with the systemd behind it, and journalctl. Settings, bundles, installing, golden frames,
the flight on a drawn video, its page and its notes are the real ones.
"""

import getpass
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import pytest
from made_frames import picture
from signed_bundle import ABOUT, MODEL, make_key, write_signed

from deploy.bundle import MANIFEST, write_bundle
from deploy.life.install import install
from deploy.life.store import linked, read_notes
from deploy.signature import trusted_keys

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
SSHD = Path("/usr/sbin/sshd")
SETTINGS = """
[source]
device = {video}
pace = real
[web]
port = {page}
[log]
is_on = no
[life]
bundles = {store}
lasting = 1
failed_starts = 2
"""
SUDO = """#!/bin/sh
# A stand-in for sudo: asks for a password, which nobody can give here, for what {forbidden} lists.
[ "$1" = -n ] || exit 9
shift
[ "$1" = -u ] && [ "$2" = skylight ] && shift 2
is_list=no
[ "$1" = -l ] && is_list=yes && shift
if grep -qF -- "$*" {forbidden} 2>/dev/null; then echo "sudo: a password is required" >&2; exit 1; fi
[ "$is_list" = yes ] && exit 0
exec "$@"
"""
DETECT = """#!/bin/sh
export PYTHONPATH={root} OMP_WAIT_POLICY=PASSIVE
case $1 in fly | install | rollback) set -- "$@" --trusted {keys};; esac
exec {python} -m deploy.cli "$@"
"""


def draw_video(path: Path, seconds: int = 60) -> Path:
    """A video that outlasts every test."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (160, 120))
    for number in range(seconds * 20):
        writer.write(picture(number // 10, 160, 120))
    writer.release()
    return path


class Field:
    """folder: of the laptop, drone: of the drone. Names that its shell sees hold what it would take apart."""

    def __init__(self, folder: Path, video: Path) -> None:
        self.folder, self.drone = folder, folder / "drone"
        self.bin = self.drone / "bin"
        self.bin.mkdir(parents=True)
        self.store = self.drone / "sto re $HOME 'x' `id` \"y\""
        self.staging = self.drone / "in coming $(id) 'x' \"y\" *"
        self.staging.mkdir()
        self.page = free_port()
        self.key = make_key(folder / "keys", "maker")
        self.old = write_signed(folder / "colours-1", self.key).root
        text = SETTINGS.format(video=video, page=self.page, store=self.store)
        (self.drone / "detect.ini").write_text(text)
        self._programs()
        self.port = self._sshd()

    def close(self) -> None:
        subprocess.run([self.bin / "systemctl", "stop", "skylight-detect.service"], check=True)
        self._server.terminate()
        self._server.wait()

    def fly_old(self) -> str:
        """Install the first bundle and fly it, by hand, on the drone; the name of its folder."""
        folder = install(self.old, self.store, trusted_keys(self.folder / "keys"), trial=lambda _: None).folder
        subprocess.run([self.bin / "systemctl", "restart", "skylight-detect.service"], check=True)
        self.wait(lambda: self.service()["ActiveState"] == "active" and read_notes(self.store).starts == 0)
        return folder

    def wait(self, is_so: Any, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < end, self.journal()
            time.sleep(0.05)

    def journal(self) -> str:
        return (self.drone / "journal").read_text() if (self.drone / "journal").exists() else ""

    def service(self) -> dict[str, Any]:
        path = self.drone / "service.json"
        return json.loads(path.read_text()) if path.exists() else {"ActiveState": "inactive", "MainPID": 0}

    def current(self) -> str | None:
        return linked(self.store, "current")

    def words(self, *words: object, port: int | None = None) -> list[str]:
        """The command, to this drone, with the laptop's key."""
        given = [sys.executable, "-m", "jetson", "push", "127.0.0.1", *words]
        given += ["--port", port or self.port, "--identity", self.folder / "id", "--user", getpass.getuser()]
        given += ["--option", f"UserKnownHostsFile={shlex.quote(str(self.folder / 'known'))}", "--option"]
        given += ["HostKeyAlias=drone", "--page", self.page]
        given += [] if "--trusted" in words else ["--trusted", self.folder / "keys"]
        return [str(word) for word in [*given, "--store", self.store, "--staging", self.staging]]

    def start(self, *words: object, path: Path | None = None, port: int | None = None) -> "subprocess.Popen[str]":
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | ({} if path is None else {"PATH": str(path)})
        pipe = subprocess.PIPE
        given = self.words(*words, port=port)
        return subprocess.Popen(given, cwd=self.folder, env=environment, stdout=pipe, stderr=pipe, text=True)

    def push(self, *words: object, **more: Any) -> "subprocess.CompletedProcess[str]":
        process = self.start(*words, **more)
        output, errors = process.communicate(timeout=120)
        return subprocess.CompletedProcess([], process.returncode, output, errors)

    def refused(self, *words: object, **more: Any) -> str:
        """The one line of a refusal, which must leave what flies alone."""
        before = (self.current(), self.service()["MainPID"])
        done = self.push(*words, **more)
        assert done.returncode == 2, done.stdout + done.stderr
        assert (self.current(), self.service()["MainPID"]) == before
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("jetson push: "), done.stderr
        return done.stderr

    def _programs(self) -> None:
        quote = shlex.quote
        systemctl = f"{quote(sys.executable)} {quote(str(HERE / 'systemctl_stand_in.py'))} {quote(str(self.drone))}"
        detect = DETECT.format(
            root=quote(str(ROOT)), keys=quote(str(self.folder / "keys")), python=quote(sys.executable)
        )
        programs = {
            "sudo": SUDO.format(forbidden=quote(str(self.drone / "forbidden"))),
            "skylight-detect": detect,
            "systemctl": f'#!/bin/sh\nexec {systemctl} "$@"\n',
            "journalctl": f"#!/bin/sh\ntail -n 8 {quote(str(self.drone / 'journal'))}\n",
        }
        for name, text in programs.items():
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)
        fly = [str(self.bin / "skylight-detect"), "fly", "--settings", str(self.drone / "detect.ini")]
        (self.drone / "command.json").write_text(json.dumps(fly))

    def _sshd(self) -> int:
        """Start sshd as the user that we are, with keys of its own, on a free port."""
        if not SSHD.exists() or shutil.which("ssh") is None:
            pytest.skip("no sshd to be a drone's: apt-get install openssh-server")
        for name in ("host", "id", "other"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name], check=True)
        shutil.copy(self.folder / "id.pub", self.drone / "authorized_keys")
        (self.folder / "known").write_text("drone " + (self.folder / "host.pub").read_text())
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        port = free_port()
        config = self.drone / "sshd_config"
        config.write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host\nPidFile none\nUsePAM no\n"
            "StrictModes no\n"
            f"AuthorizedKeysFile {self.drone}/authorized_keys\nPasswordAuthentication no\nPermitRootLogin yes\n"
            f"KbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\nMaxStartups 100\n"
            f"SetEnv PATH={self.bin}:/usr/local/bin:/usr/bin:/bin\n"
        )
        self._server = subprocess.Popen([SSHD, "-D", "-e", "-f", config], stderr=(self.drone / "sshd.log").open("w"))
        self.wait(lambda: _answers(port) or self._server.poll() is not None)
        if self._server.poll() is not None:
            pytest.skip(f"sshd does not start here: {(self.drone / 'sshd.log').read_text().strip()}")
        return port


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def new_version(field: Field, version: str, extra: bytes = b"") -> Path:
    """Another bundle of the same key. extra: content of a file that makes it larger."""
    files = {name: (field.old / name).read_bytes() for name in json.loads((field.old / MANIFEST).read_text())["files"]}
    if extra:
        files["calibration/noise.png"] = extra
    about = ABOUT | {"version": version, "models": [MODEL._asdict()]}
    return write_bundle(field.folder / f"colours-{version}", files, about, field.key.sign).root


def read_until(process: "subprocess.Popen[str]", text: str) -> None:
    """Read what the command says until that comes."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"ended without {text!r}")
