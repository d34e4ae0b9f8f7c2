"""Fixtures that every folder of tests shares: where the real data is, and how bad input must be refused."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"


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
