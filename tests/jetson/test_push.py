"""`skylight push` to a drone behind a real sshd: a good bundle flies, a bad one does not, and what flew goes on."""

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cutting_proxy import CuttingProxy
from field import Field, draw_video, new_version, read_until
from signed_bundle import edit

from deploy.strict_json import canonical_json

pytestmark = pytest.mark.long

WATCH = ("--watch", "2")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_video(tmp_path_factory.mktemp("video") / "flight.avi")


@pytest.fixture
def field(tmp_path: Path, video: Path) -> Iterator[Field]:
    made = Field(tmp_path, video)
    yield made
    made.close()


def damage_golden(field: Field, bundle: Path) -> Path:
    """Let its golden frames expect what no network gives; signed again, so that nobody but a trial can tell."""
    golden = json.loads((bundle / "golden/golden.json").read_text())
    for frame in golden["frames"]:
        for found in frame["expected"].values():
            for one in found:
                one["score"] -= 0.2
    data = canonical_json(golden)
    (bundle / "golden/golden.json").write_bytes(data)
    files = json.loads((bundle / "bundle.json").read_text())["files"]
    files["golden/golden.json"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit(bundle, field.key, files=files)
    return bundle


def test_good_bundle_ends_flying_and_is_not_sent_again(field: Field) -> None:
    old = field.fly_old()
    new = new_version(field, "2")
    done = field.push(new, *WATCH)
    assert done.returncode == 0, done.stdout + done.stderr
    assert field.current() is not None
    assert field.current() != old
    assert field.service()["ActiveState"] == "active"
    for said in (
        "signed by maker",
        "verified there",
        "READY",
        "page: ok",
        "noted on the drone as lasting",
        "seen well",
    ):
        assert said in done.stdout
    assert list(field.staging.iterdir()) == []
    process = field.service()["MainPID"]
    again = field.push(new, *WATCH, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)[0]["result"] == "flew already"
    assert field.service()["MainPID"] == process


def test_bundle_whose_golden_frames_depart_there_is_refused_and_the_old_one_flies_on(field: Field) -> None:
    field.fly_old()
    line = field.refused(damage_golden(field, new_version(field, "2")), *WATCH)
    assert "do not fly it" in line
    assert list(field.staging.iterdir()) == []


def test_bundle_that_crashes_after_its_start_is_taken_back(field: Field) -> None:
    old = field.fly_old()
    process = field.start(new_version(field, "2"), "--watch", "60")
    read_until(process, "first turn of the loop passed")
    running = field.service()["MainPID"]
    assert running > 1
    os.kill(running, signal.SIGSEGV)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1, output + errors
    assert field.current() == old
    assert field.service()["ActiveState"] == "active"
    assert f"flies {old} again" in errors
    assert "ended and was started again" in errors
    assert "127.0.0.1| " in errors  # the drone's own last lines
    assert errors.count("jetson push:") == 1


def test_bundle_that_never_gets_ready_is_taken_back_also_where_the_drone_goes_back_by_itself(field: Field) -> None:
    """The service dies at each start; the drone's own count and our rollback must not take the good one back too."""
    old = field.fly_old()
    fly = field.bin / "skylight-detect"
    guard = f'case "$1 $(readlink "{field.drone}/store-link/current")" in "fly colours-2-"*) kill -SEGV $$;; esac\n'
    (field.drone / "store-link").symlink_to(field.store)
    fly.write_text(fly.read_text().replace("exec ", guard + "exec "))
    done = field.push(new_version(field, "2"), *WATCH)
    assert done.returncode == 1, done.stdout + done.stderr
    assert field.current() == old
    assert field.service()["ActiveState"] == "active"


@pytest.mark.parametrize("way", ["rsync", "sftp"])
def test_copy_that_is_cut_goes_on_inside_of_the_file(field: Field, tmp_path: Path, way: str) -> None:
    field.fly_old()
    large = new_version(field, "2", os.urandom(12 << 20))
    path = tmp_path / "laptop"
    path.mkdir()
    for name in ("ssh", "sftp", *(["rsync"] if way == "rsync" else [])):
        (path / name).symlink_to(Path("/usr/bin") / name)
    if not all(file.exists() for file in path.iterdir()):
        pytest.skip(f"no {way}: apt-get install {way}")
    proxy = CuttingProxy(field.port, 10 << 20)
    done = field.push(large, *WATCH, port=proxy.port, path=path)
    proxy.close()
    assert done.returncode == 0, done.stdout + done.stderr
    assert proxy.cut is not None
    assert "trying again" in done.stdout
    # What was on its way is lost: up to 2 MiB, the window of a channel of OpenSSH, and as much in pipes and sockets.
    assert sum(proxy.sent[proxy.cut + 1 :]) < 7 << 20, proxy.sent
    assert (field.store / str(field.current()) / "calibration/noise.png").read_bytes() == (
        large / "calibration/noise.png"
    ).read_bytes()


def test_wrong_key_unknown_host_and_nobody_there_are_one_line(field: Field, tmp_path: Path) -> None:
    field.fly_old()
    new = new_version(field, "2")
    known = (tmp_path / "known").read_text()
    (tmp_path / "known").write_text("")
    assert "its host key is not known here; call ssh once by hand" in field.refused(new)
    (tmp_path / "known").write_text("drone " + (tmp_path / "other.pub").read_text())
    assert "another host key than the known one" in field.refused(new)
    (tmp_path / "known").write_text(known)
    for name in ("id", "id.pub"):
        (tmp_path / name).write_text((tmp_path / name.replace("id", "other")).read_text())
    assert "the key was not accepted; ssh-copy-id" in field.refused(new)
    assert "no connection" in field.refused(new, port=1)


def test_drone_that_lacks_something_is_refused_before_anything_is_done(field: Field) -> None:
    field.fly_old()
    new = new_version(field, "2")
    detect = field.bin / "skylight-detect"
    detect.rename(field.bin / "away")
    assert "has no command skylight-detect" in field.refused(new)
    (field.bin / "away").rename(detect)
    (field.drone / "forbidden").write_text("systemctl --no-block restart skylight-detect.service\n")
    assert "sudo does not allow, without a password: sudo -n systemctl --no-block restart" in field.refused(new)
    (field.drone / "forbidden").unlink()
    field.staging.rmdir()
    assert "is not there, or not ours to write; docs/push.md" in field.refused(new)
    assert sorted(path.name for path in field.store.iterdir() if path.name.startswith("colours-2")) == []


def test_full_disk_is_one_line(field: Field) -> None:
    field.fly_old()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", field.staging], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no small disk to fill: mounting is not allowed here")
    try:
        assert "MiB free in" in field.refused(new_version(field, "2", os.urandom(4 << 20)))
    finally:
        subprocess.run(["umount", field.staging], check=True)


def test_what_is_damaged_or_not_trusted_here_reaches_no_drone(field: Field, tmp_path: Path) -> None:
    field.fly_old()
    new = new_version(field, "2")
    (new / "model.onnx").write_bytes(b"other")
    assert "model.onnx: has 5 bytes" in field.refused(new)
    assert "trusted here" in field.refused(field.old, "--trusted", stranger(tmp_path))


def stranger(tmp_path: Path) -> Path:
    """A folder of trusted keys, none of which signed anything."""
    from signed_bundle import make_key

    make_key(tmp_path / "strangers", "stranger")
    return tmp_path / "strangers"


def test_ctrl_c_says_where_the_drone_stands(field: Field) -> None:
    old = field.fly_old()
    process = field.start(new_version(field, "2"), "--watch", "60")
    read_until(process, "first turn of the loop passed")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert f"stopped; flies {field.current()} now" in errors
    assert "rollback --json" in errors
    assert field.current() != old


def test_ctrl_c_while_copying_leaves_the_old_one_flying_and_the_copy_goes_on(field: Field) -> None:
    old = field.fly_old()
    new = new_version(field, "2", os.urandom(8 << 20))
    proxy = CuttingProxy(field.port, 4 << 20)
    process = field.start(new, port=proxy.port)
    read_until(process, "trying again")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    proxy.close()
    assert process.returncode == 130, errors
    assert f"stopped; flies {old}; what was copied is kept" in errors
    assert field.current() == old


def test_several_drones_stop_at_the_first_failure(field: Field) -> None:
    field.fly_old()
    (field.drone / "forbidden").write_text("systemctl stop skylight-detect.service\n")
    new = new_version(field, "2")
    done = field.push("localhost", new, "--json")
    assert done.returncode == 2
    assert [one["host"].split("@")[-1] for one in json.loads(done.stdout)] == ["127.0.0.1"]
    assert "not touched: " in done.stderr
    done = field.push("localhost", new, "--json", "--keep-going")
    assert [one["result"] for one in json.loads(done.stdout)] == ["refused", "refused"]


def test_dry_run_prints_commands_and_reaches_nobody(field: Field) -> None:
    done = field.push(new_version(field, "2"), "--dry-run", port=1)
    assert done.returncode == 0, done.stderr
    for said in ("BatchMode=yes", "rsync --relative", "sftp -q -b", "skylight-detect install --json", "rollback"):
        assert said in done.stdout


def test_line_that_breaks_while_it_is_taken_back_leaves_no_stopped_drone(field: Field, tmp_path: Path) -> None:
    """The answer to each command that changes the drone is lost once, after the drone did what it said."""
    old = field.fly_old()
    laptop = tmp_path / "laptop"
    laptop.mkdir()
    (laptop / "ssh").write_text(
        f"""#!/bin/sh
case "$*" in
*"command -v"*) ;;
*"rollback --json"*) one=rollback ;;
*"stop skylight-detect"*) one=stop ;;
*reset-failed*) one=reset ;;
*"restart skylight-detect"*) one=restart ;;
esac
/usr/bin/ssh "$@"
status=$?
[ -z "$one" ] || [ -e {laptop}/$one ] || {{ touch {laptop}/$one; exit 255; }}
exit $status
"""
    )
    (laptop / "ssh").chmod(0o755)
    path = Path(f"{laptop}:{os.environ['PATH']}")
    process = field.start(new_version(field, "2"), "--watch", "60", path=path)
    read_until(process, "first turn of the loop passed")
    os.kill(field.service()["MainPID"], signal.SIGSEGV)
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 1, output + errors
    assert field.current() == old
    assert field.service()["ActiveState"] == "active"
    assert sorted(one.name for one in laptop.iterdir()) == ["reset", "restart", "rollback", "ssh", "stop"]
