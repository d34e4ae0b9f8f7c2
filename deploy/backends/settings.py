"""What can be set about the network."""

from pathlib import Path
from typing import NamedTuple, Optional

from deploy.backends.choose import AUTO, KINDS, Choice, Progress
from deploy.engines import ENGINES
from deploy.errors import refuse
from deploy.manifest import PRECISIONS
from deploy.settings import require_ranges


class NetworkSettings(NamedTuple):
    """What the network runs in.

    backend: auto takes the first that is there of tensorrt, onnxruntime and opencv, or one of these
    threads: for a network on the processor, 1 to 256, or none for all cores
    precision: fp32, fp16 or int8, or none for the fastest that the board has and that needs no calibration
    model: file name of the model in the bundle that runs, or none for the one that fits
    engines: folder of the engines that were built, with a folder for each bundle
    """

    backend: str = AUTO
    threads: Optional[int] = None
    precision: Optional[str] = None
    model: Optional[str] = None
    engines: str = str(ENGINES)

    def check(self) -> None:
        """Refuse what is out of range: raises UserError."""
        if self.backend not in (AUTO,) + KINDS:
            raise refuse("backend=" + self.backend, "unknown", "allowed: " + ", ".join((AUTO,) + KINDS))
        require_ranges(self, threads=(1, 256))
        if self.precision is not None and self.precision not in PRECISIONS:
            raise refuse("precision=" + self.precision, "unknown", "allowed: " + ", ".join(PRECISIONS))

    def choice(self, progress: Optional[Progress] = None) -> Choice:
        """The same for `open_networks`. progress: told of every step of building an engine."""
        return Choice(self.backend, self.threads, Path(self.engines), self.precision, self.model, progress)
