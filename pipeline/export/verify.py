"""Runs every model of a bundle on its golden frames, in ONNX Runtime, as `skylight bundle verify --golden` asks for."""

from deploy.backends import OnnxRuntimeBackend
from deploy.bundle import Bundle
from deploy.golden import GoldenReport, check_golden

__all__ = ["run_golden"]


def run_golden(bundle: Bundle) -> list[GoldenReport]:
    """What each model found.

    Raises:
        UserError: a frame on which one departs from what it must give, and by how much.
    """
    chosen = [bundle.with_model(model.file) for model in bundle.models]
    return [check_golden(one, OnnxRuntimeBackend(one.model)) for one in chosen]
