"""What every test of Darknet's networks starts from."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> None:
    """New networks get the same random weights in every run."""
    torch.manual_seed(0)
