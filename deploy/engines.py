"""Where engines that were built on the board lie. Knows nothing of TensorRT, so that the doctor may ask without it."""

from pathlib import Path

from deploy.bundle import Bundle

ENGINES = Path("/var/lib/skylight/engines")


def engine_folder(cache: Path, bundle: Bundle) -> Path:
    """The folder of a bundle's engines below `cache`, wherever the bundle itself lies."""
    return cache / "{}-{}".format(bundle.name, bundle.version)
