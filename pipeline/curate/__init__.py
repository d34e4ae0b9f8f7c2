"""From a source of photos and boxes to a curated set, by a recipe."""

from pipeline.curate.recipe import Recipe, read_recipe
from pipeline.curate.rules import Remaining
from pipeline.curate.run import CurationSummary, SplitCount, curate

__all__ = ["CurationSummary", "Recipe", "Remaining", "SplitCount", "curate", "read_recipe"]
