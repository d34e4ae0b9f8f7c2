"""Fixtures that every folder of tests shares: where the real data is, and how bad input must be refused."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from browsing import CHROMIUM, Tab
from drawn import Skylight, write_experiment
from drawn_objects import NETWORK, OPTIONS, draw_objects, pretrained_from
from forked import Forked

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"

# No deadline for an example: the machine may have other work.
hypothesis.settings.register_profile("skylight", deadline=None)
hypothesis.settings.load_profile("skylight")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """New networks get the same random weights in every run."""
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real photos and reference numbers that lies beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data: {SHARED} does not exist")
    return SHARED


@pytest.fixture(scope="session")
def darknet_data(shared_data: Path) -> Path:
    """Reference numbers measured with Darknet, and one real model with its detections."""
    return shared_data / "darknet"


@pytest.fixture(scope="session")
def facades(shared_data: Path) -> Path:
    """576 real street photos in the Open Images layout, with planted defects."""
    return shared_data / "facades"


@pytest.fixture(scope="session")
def forked() -> Iterator[Forked]:
    """Starts commands from a process that has imported torch already."""
    process = Forked()
    yield process
    process.close()


@pytest.fixture(scope="session")
def skylight(forked: Forked) -> Skylight:
    """The command, run as a user would."""

    def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        words = [*map(str, arguments)]
        if "env" not in options:
            return forked.run(words, timeout=300, **options)
        command = [str(Path(sys.executable).with_name("skylight")), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, skylight: Skylight) -> Path:
    """A folder with a drawn set and a finished experiment: experiment.yaml, runs/."""
    root = tmp_path_factory.mktemp("trained")
    done = skylight("train", write_experiment(root), "--root", root)
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture(scope="session")
def bundle(trained: Path, skylight: Skylight) -> Path:
    """A bundle made from that experiment."""
    done = skylight("export", trained / "experiment.yaml", "--root", trained)
    assert done.returncode == 0, done.stderr
    return trained / "bundles" / "square-1"


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 photos to train, 8 in val, 4 in test; two objects on each, and one that is too small."""
    return draw_objects(tmp_path_factory.mktemp("objects") / "objects", {"train": 16, "val": 8, "test": 4})


@pytest.fixture(scope="session")
def studied(tmp_path_factory: pytest.TempPathFactory, objects: Path, skylight: Skylight) -> Path:
    """A root with all three techniques, from a file as torchvision publishes them; its output is printed.txt."""
    import torch
    from torchvision.models import get_model

    root = tmp_path_factory.mktemp("studied")
    torch.manual_seed(1)
    torch.save(get_model(NETWORK, weights=None).state_dict(), root / "published.pth")
    done = skylight("classify", objects, *OPTIONS, *pretrained_from(root), "--root", root)
    assert done.returncode == 0, done.stderr
    (root / "printed.txt").write_text(done.stdout)
    return root


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        reason = f"no {CHROMIUM}: install the system's package chromium to test in a browser"
        if os.environ.get("SKYLIGHT_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_tab(browser: Any) -> Iterator[Callable[..., Tab]]:
    tabs: list[Tab] = []

    def make(**options: Any) -> Tab:
        tabs.append(Tab(browser, **options))
        return tabs[-1]

    yield make
    for tab in tabs:
        tab.context.close()
