"""Where everything that is made lies: the folders under one root. Makes none of them."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Workspace", "probing"]


def probing(experiment: str) -> str:
    """The name under which the probes of `skylight advise` lie, as an experiment of their own."""
    return f"{experiment}-advice"


@dataclass(frozen=True)
class Workspace:
    """The folder under which everything that is made lies."""

    root: Path

    @property
    def data(self) -> Path:
        """Curated sets."""
        return self.root / "data"

    @property
    def cache(self) -> Path:
        """What was downloaded and measured; may be deleted, and is made again."""
        return self.root / "cache"

    @property
    def weights(self) -> Path:
        """Published weights, downloaded on demand or put there by hand."""
        return self.cache / "weights"

    @property
    def images(self) -> Path:
        """Pictures at the size of a network."""
        return self.cache / "images"

    @property
    def features(self) -> Path:
        """What frozen layers make of pictures, where it does not fit into memory."""
        return self.cache / "features"

    def cross_check(self, recipe: str) -> Path:
        """What networks that never saw a photo say about its labels."""
        return self.cache / "cross-check" / recipe

    def flights(self, recipe: str) -> Path:
        """Frames of flights that wait for a person, a folder per flight; what was corrected there lies nowhere else."""
        return self.root / "flights" / recipe

    def run(self, experiment: str) -> Path:
        """What was trained for one experiment, a folder per stage; `skylight classify` has classify/ there."""
        return self.root / "runs" / experiment

    def stage(self, experiment: str, stage: str) -> Path:
        """Trials of one stage."""
        return self.run(experiment) / stage

    def scores(self, experiment: str) -> Path:
        """The file of what `skylight score` found."""
        return self.run(experiment) / "scores.json"

    def advice(self, experiment: str, stage: str) -> Path:
        """The file of what `skylight advise` said about a stage, beside its probes."""
        return self.run(probing(experiment)) / f"{stage}.json"

    @property
    def bundles(self) -> Path:
        """What flies."""
        return self.root / "bundles"

    @property
    def report(self) -> Path:
        """A page per experiment."""
        return self.root / "report"
