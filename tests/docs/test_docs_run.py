"""Commands of the pages, run as they stand there, on drawn data laid out as the README has it.

What trains for long, downloads, or needs the real photos is tested where it is built.
"""

import shlex
from pathlib import Path

import pytest
import yaml
from drawn import SMALL_CFG, draw_set
from pages import blocks

from pipeline import cli

STAGES = [
    {"name": "windows", "data": "windows", "iterations": 12},
    {"name": "arch", "data": "arch", "starts": [{"name": "windows", "stage": "windows"}], "iterations": 8},
]

# In this order: what is exported is looked at afterwards.
RUN = (
    "skylight weights",
    "skylight anchors data/facades-windows --size 224",
    "skylight evaluate runs/facades/arch/windows-f0-s0",
    "skylight plan data/facades-arch --start runs/facades/windows/scratch-f0-s0",
    "skylight difference runs/facades/windows/scratch-f0-s0 runs/facades/arch/windows-f0-s0",
    "skylight keys new",
    "skylight keys list",
    "skylight export experiments/facades.yaml",
    "skylight bundle show bundles/arch-1",
    "skylight bundle verify bundles/arch-1 --golden",
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the checkout after `make curate train`."""
    root = tmp_path_factory.mktemp("checkout")
    (root / "experiments").mkdir()
    for name in ("windows", "arch"):
        draw_set(root / "data" / f"facades-{name}", train=12, val=4)
    (root / "experiments" / "small.cfg").write_text(SMALL_CFG)
    content = {
        "name": "facades",
        "network": "small.cfg",
        "size": 64,
        "batch": 8,
        "learning_rate": 0.003,
        "data": {name: {"path": f"../data/facades-{name}"} for name in ("windows", "arch")},
        "stages": STAGES,
        "export": {"stage": "arch", "name": "arch"},
    }
    (root / "experiments" / "facades.yaml").write_text(yaml.safe_dump(content))
    cli.app(["train", str(root / "experiments/facades.yaml"), "--root", str(root)], standalone_mode=False)
    return root


def test_commands_of_the_pages_run_as_they_stand(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        " ".join(shlex.split(line, comments=True))
        for block in blocks()
        for line in block.text.splitlines()
        if block.language in ("sh", "console")
    ]
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(checkout / "config"))
    for line in RUN:
        assert line in lines, f"{line}: no page has it any more"
        cli.app(line.split()[1:], standalone_mode=False)
        assert capsys.readouterr().out.strip(), line
    assert (checkout / "bundles/arch-1/signature").exists()
