"""Commands of the pages, run as they stand there, on drawn data laid out as the README has it.

Every command of every block is in RUN or, with the reason, in LEFT_OUT: a new one has to go into one of them.
"""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from checkout import draw_checkout, fly, hand_over_keys, make_another_bundle, use_up_cfg
from commandline import is_ours
from pages import blocks

import deploy.cli
from pipeline import cli
from pipeline.errors import UserError

# In this order: what one makes, a later one takes.
RUN = (
    "skylight doctor",
    "skylight weights",
    "skylight anchors data/facades-windows --size 224",
    "skylight evaluate runs/facades/arch/windows-f0-s0",
    "skylight evaluate my.cfg --weights my.weights --data data/facades-arch",
    "skylight evaluate my.cfg --weights my.weights --data data/facades-arch --split test",
    "skylight curate datasets/facades.yaml --source ../shared/data/facades",
    "skylight curate datasets/facades.yaml --source ../shared/data/facades --explain 0513a9188649dff1",
    "skylight curate datasets/facades-objects.yaml --source ../shared/data/facades",
    "skylight classify data/facades-objects --network resnet18 --technique scratch --size 64 --epochs 2",
    "skylight plan data/facades-arch --start runs/facades/windows/scratch-f0-s0",
    "skylight advise experiments/facades.yaml",
    "skylight advise experiments/facades.yaml --stage arch",
    "skylight difference runs/facades/windows/scratch-f0-s0 runs/facades/arch/windows-f0-s0",
    "skylight score experiments/facades.yaml",
    "skylight features runs/facades/arch/windows-f0-s0 --layer 12 --data my/photos --out b.npz --pool max",
    "skylight report experiments/facades.yaml",
    "skylight keys new",
    "skylight keys list",
    "skylight export experiments/facades.yaml",
    "skylight export experiments/facades.yaml --key team.key",
    "skylight export experiments/facades.yaml --board jetson-tx2",
    "skylight export runs/facades/arch/windows-f13-s0 --board jetson-tx2",
    "skylight export runs/facades/arch/windows-f13-s0 --board jetson-tx2 --name arch-tx2",
    "skylight export my.cfg --weights my.weights --data data/facades-arch",
    "skylight export lint bundles/arch-tx2-1/model.onnx --board jetson-nano",
    "skylight export profile bundles/arch-tx2-1",
    "skylight export profile bundles/arch-1 --board jetson-xavier-nx --precision int8",
    "skylight export lint model.onnx --board jetson-tx2",
    "skylight export profile model.onnx --board jetson-tx2",
    "skylight bundle show bundles/arch-1",
    "skylight bundle verify bundles/arch-1 --golden",
    "skylight bundle verify bundles/arch-1 --trusted keys --golden",
    "skylight bundle diff bundles/arch-1 bundles/arch-2",
    "skylight detect --bundle bundles/arch-1 --source ../shared/data/video/udacity_test_video.mp4 --out out",
    "skylight-detect run --bundle bundles/arch-1 --source flight.mp4 --out out",
    "skylight-detect fly --print-settings > detect.ini",
    "skylight calibrate board/ --board 9x6 --square 25 --out camera.json",
    "skylight calibrate board.mp4 --board 9x6 --square 24.8 --out camera.json",
    "skylight log show log",
    "skylight log export log/flight-000012 to-label --rule margin --rule lost",
    "skylight replay log --bundle bundles/arch-2 --out differences",
    "skylight replay log --bundle bundles/arch-2 --against bundles/arch-1 --json",
    "skylight replay log --bundle bundles/arch-2 --video flight.mp4",
    "skylight curate datasets/target-window.yaml --source my/photos --flight log/flight-000012",
    "skylight anchors data/facades-windows --size 224 --cfg yolov3-tiny --write my.cfg",
    "python -m jetson package --board jetson-tx2 --print-wheels",
)

# What the reader of the pages has or has done by then.
BEFORE: dict[str, Callable[[Path], None]] = {
    "skylight export experiments/facades.yaml --key team.key": hand_over_keys,
    "skylight export lint model.onnx --board jetson-tx2": make_another_bundle,
    "skylight log show log": fly,
    "skylight anchors data/facades-windows --size 224 --cfg yolov3-tiny --write my.cfg": use_up_cfg,
}

LEFT_OUT = {
    "trains the real experiment, draws pictures or tests the whole: minutes to hours": (
        "make demo",
        "make test",
        "make curate train export EXPERIMENT=experiments/facades.yaml",
        "make pictures",
    ),
    "downloads published weights": (
        "skylight classify data/facades-objects",
        "skylight classify data/facades-objects --network resnet18 --technique finetuned --seed 0 --seed 1 --seed 2"
        " --size 64",
        "skylight features resnet18 --weights imagenet --layer avgpool --data data/facades-objects --crops --out a.npz"
        " --classify knn",
        "skylight features yolov3-tiny --weights yolov3-tiny.conv.15 --layer 12 --data my/photos --out c.npz"
        " --pool none",
        "skylight plan data/facades-arch --start yolov3-tiny.conv.15 --size 224",
    ),
    "needs best.pt, a file of Ultralytics; tests/networks reads such files, tests/train measures one": (
        "skylight evaluate yolo11n --weights best.pt --data data/facades-arch --size 416",
        "skylight export yolo11n --weights best.pt --data data/facades-arch --size 416",
    ),
    "waits for a person at a browser; tests/browser clicks": (
        "skylight curate datasets/facades.yaml --source ../shared/data/facades --review",
        "skylight curate datasets/target-window.yaml --source my/photos --flight out/detections.jsonl --review",
    ),
    "trains detectors on every fold for minutes; tests/crosscheck does it with little": (
        "skylight curate datasets/facades.yaml --source ../shared/data/facades --cross-check",
    ),
    "makes the sets of recipes, and the sets of the experiment drawn here are there already": (
        "skylight curate experiments/facades.yaml",
    ),
    "changes this machine: its shell, its libraries, the checkout": (
        "skylight --install-completion",
        "pip install ./deploy[cpu,autopilot,web,signature]",
        "make package BOARD=jetson-tx2",
    ),
    "a folder of a team's server": ("skylight doctor --root /mnt/team --json",),
    "needs a camera, and flies until it is stopped": (
        "skylight-detect run --bundle bundles/arch-1 --source 0 --out out",
        "skylight-detect --bundle bundles/arch-1 --source 0 --golden",
        "skylight-detect fly --bundle bundles/arch-1 --settings detect.ini",
        "skylight-detect fly --settings detect.ini --bundle bundles/arch-1",
    ),
    "needs a board on the USB cable, or NVIDIA's packages and root": (
        "make flash BOARD=jetson-tx2 MODULE=P3310",
        "make image BOARD=jetson-tx2 BUNDLE=bundles/arch-1 SYSTEM=drone.yaml L4T=FILE ROOTFS=FILE"
        " IMAGE_OPTIONS=--wheels wheels --accept-licence",
        "make image BOARD=jetson-tx2 BUNDLE=bundles/arch-1 SYSTEM=drone.yaml L4T=jetson_linux_r32.7.6_aarch64.tbz2"
        " ROOTFS=tegra_linux_sample-root-filesystem_r32.7.6_aarch64.tbz2"
        " IMAGE_OPTIONS=--wheels wheels --packages debs --trusted keys --settings detect.ini --accept-licence",
    ),
    "make prepares the checkout's own environment first; tests/jetson reads what the dry run prints": (
        "make flash BOARD=jetson-tx2 MODULE=P3310 DRY_RUN=1",
    ),
    "reaches a drone by ssh": (
        "python -m jetson push drone.local bundles/arch-2",
        "skylight push drone.local bundles/arch-2",
        "skylight push pilot@10.0.0.11 pilot@10.0.0.12 bundles/arch-2 --identity ~/.ssh/drones",
        "ssh -L 8080:localhost:8080 drone",
    ),
    "looks at what is installed on the drone": (
        "skylight-detect bundles",
        "skylight-detect doctor",
    ),
    "root, on the drone": (
        "sudo -u skylight skylight-detect install bundles/arch-1",
        "sudo -u skylight skylight-detect install bundles/arch-2",
        "sudo -u skylight skylight-detect rollback",
        "sudo -u skylight skylight-detect rollback arch-1-3f9c21ab",
        "sudo apt install ./skylight-detect_VERSION_jetson-tx2.deb",
        "sudo chgrp skylight /etc/skylight/web_token",
        "sudo install -D -m 644 maker.pub /etc/skylight/trusted_keys/maker.pub",
        'sudo sh -c umask 027; python3 -c "import secrets; print(secrets.token_urlsafe(24))" > /etc/skylight/web_token',
        "sudo skylight-detect wheels /media/stick/wheels",
        "sudo skylight-detect wheels wheels/",
        "sudo systemctl enable --now skylight-detect",
        "sudo systemctl restart skylight-detect",
        "sudo usermod -aG skylight-push,systemd-journal pilot",
    ),
}


def _commands() -> list[str]:
    """Every command of every block, on one line, without its comment."""
    found = []
    for block in blocks():
        for line in block.text.replace("\\\n", " ").splitlines():
            is_command = (
                block.language in ("sh", "console") or is_ours(line) or "-m jetson " in line or line.startswith("sudo ")
            )
            words = shlex.split(line, comments=True) if is_command else []
            if words:
                found.append(" ".join(words).removeprefix(".venv/bin/"))
    return found


def _run(line: str) -> int:
    """Its exit status; what goes into a file is printed. Ours run in this process, which has imported torch already."""
    words = shlex.split(line.split(" > ")[0])
    if words[0] == "skylight-detect":
        return deploy.cli.main(words[1:])
    if words[0] == "python":
        return subprocess.run([sys.executable, *words[1:]], check=False).returncode
    try:
        return cli.app(words[1:], standalone_mode=False) or 0
    except UserError as error:
        pytest.fail(f"{line}: {error}")
    except SystemExit as ended:  # of `skylight detect`, which hands over to skylight-detect
        return int(ended.code or 0)


def test_every_command_of_the_pages_is_run_or_left_out_for_a_reason() -> None:
    commands = set(_commands())
    left_out = [line for lines in LEFT_OUT.values() for line in lines]
    known = [*RUN, *left_out]
    assert sorted(known) == sorted(set(known)), "a command stands here twice"
    assert commands - set(known) == set(), "run these, or say in LEFT_OUT why not"
    assert set(known) - commands == set(), "no page has these any more"


def test_commands_of_the_pages_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkout").mkdir()
    checkout = draw_checkout(tmp_path / "checkout")
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for line in RUN:
        BEFORE.get(line, lambda _: None)(checkout)
        capfd.readouterr()
        status = _run(line)
        said, complaint = capfd.readouterr()
        assert status == 0 or line == "skylight doctor", f"{line}: {complaint}"  # this machine may have a problem
        assert said.strip(), line
    for made in ("signature", "model.onnx"):
        assert (checkout / "bundles/arch-1" / made).exists()
