"""arm64 Debian 12, emulated: the package installs, systemd takes its unit, and it detects what the host detects."""

import io
import json
import shutil
from pathlib import Path

import arm64
import cv2
import numpy as np
import pytest
from drawn import draw_picture

from deploy.cli import main
from deploy.frame import Detections
from deploy.golden import TOLERANCES, compare
from jetson.image.compiled import compile_sources
from jetson.package.build import build_package
from jetson.package.offline import install_offline
from jetson.runner import Runner

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

_THRESHOLD = 0.05


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system in which the package is installed by its own dpkg, and the wheels by the command."""
    reason = arm64.missing({})
    if reason is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("arm64")
    root = arm64.unpack_root(folder / "root")
    board = arm64.board(folder)
    build_package(board, root / "tmp/skylight.deb", io.StringIO())
    shutil.copytree(arm64.wheels(board), root / "tmp/wheels")
    arm64.chroot(root, "dpkg", "--install", "/tmp/skylight.deb")
    arm64.chroot(root, "skylight-detect", "wheels", "/tmp/wheels")
    return root


def test_it_installs_with_user_groups_and_a_compiled_program(root):
    groups = arm64.chroot(root, "id", "-Gn", "skylight").stdout.split()
    assert set(groups) == {"skylight", "video", "render", "dialout"}
    assert list((root / "usr/lib/skylight/deploy/__pycache__").glob("cli.*.pyc"))
    assert "skylight-detect fly" in arm64.chroot(root, "skylight-detect", "--help").stdout
    arm64.chroot(root, "dpkg", "--install", "/tmp/skylight.deb")
    assert arm64.chroot(root, "dpkg", "--verify", "skylight-detect").stdout == ""
    imported = "import deploy.cli, tornado.web, numpy, pymavlink.dialects.v20.common"
    path = "PYTHONPATH=/usr/lib/skylight:/usr/lib/skylight/wheels"
    told = arm64.chroot(root, path, "python3", "-B", "-v", "-c", imported).stderr
    read = [
        line.split("'")[1] for line in told.splitlines() if line.startswith("# code object from '/usr/lib/skylight")
    ]
    assert len(read) > 100
    assert [name for name in read if name.endswith(".py")] == []


def test_systemd_takes_the_unit(root):
    done = arm64.chroot(root, "systemd-analyze", "verify", "--man=no", "/lib/systemd/system/skylight-detect.service")
    assert "skylight" not in done.stdout + done.stderr


def test_the_host_installs_the_same_files(root, tmp_path):
    """dpkg of the host, with DPKG_ROOT, leaves what the root's own dpkg does."""
    other = arm64.unpack_root(tmp_path / "root")
    install_offline(root / "tmp/skylight.deb", other, tmp_path, Runner(io.StringIO()))
    for name in ("etc/passwd", "etc/group", "etc/gshadow"):
        assert sorted((other / name).read_text().splitlines()) == sorted((root / name).read_text().splitlines())
    assert "Status: install ok installed" in arm64.chroot(other, "dpkg", "--status", "skylight-detect").stdout
    assert arm64.chroot(other, "dpkg", "--verify", "skylight-detect").stdout == ""
    assert arm64.chroot(other, "dpkg", "--audit").stdout == ""
    assert not list((other / "usr/lib/skylight").rglob("*.pyc"))
    found = []
    for _ in range(2):
        compile_sources(other, Runner(io.StringIO()))
        compiled = {path: path.read_bytes() for path in (other / "usr/lib/skylight").rglob("*.pyc")}
        found.append(compiled)
        for path in compiled:
            path.unlink()
    assert found[0] == found[1]
    assert len(found[0]) > 100


def test_it_detects_what_the_host_detects(root, bundle, tmp_path):
    rng = np.random.default_rng(3)
    # PNG pictures in it: lossy ones are decoded a little differently by each processor.
    video = tmp_path / "drawn.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MPNG"), 10, (96, 80))
    for _ in range(12):
        writer.write(draw_picture(rng)[0])
    writer.release()
    options = ["--threshold", str(_THRESHOLD), "--no-video", "--backend", "onnxruntime"]
    assert main(["run", "--bundle", str(bundle), "--source", str(video), "--out", str(tmp_path / "out"), *options]) == 0
    shutil.copytree(bundle, root / "tmp/bundle")
    shutil.copy(video, root / "tmp/drawn.avi")
    with arm64.mounted(root):
        where = ("--bundle", "/tmp/bundle", "--source", "/tmp/drawn.avi", "--out", "/tmp/out")
        arm64.chroot(root, "skylight-detect", "run", *where, "--golden", *options)
    here, there = (_detections(folder / "detections.jsonl") for folder in (tmp_path / "out", root / "tmp/out"))
    assert len(here) == len(there) == 12
    assert sum(len(found.scores) for found in here) > 20
    worst = [compare(one, other, _THRESHOLD, TOLERANCES["fp32"]) for one, other in zip(here, there, strict=True)]
    print(f"scores at most {max(score for score, _ in worst)} away, IoU at least {min(iou for _, iou in worst)}")


def _detections(path: Path) -> list[Detections]:
    """Of each frame, as golden frames compare them."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    frames = [line["detections"] for line in lines if "detections" in line]
    return [
        Detections(
            np.array([found["box"] for found in frame], np.float32).reshape(-1, 4),
            np.array([found["score"] for found in frame], np.float32),
            np.array([found["class"] for found in frame], np.int64),
        )
        for frame in frames
    ]
