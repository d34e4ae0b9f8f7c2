"""From a source of photos and boxes to a curated set, by a recipe."""

from pipeline.curate.decisions import Remaining
from pipeline.curate.examine import Examination, Progress
from pipeline.curate.ledger import explain
from pipeline.curate.recipe import Recipe, is_recipe, read_recipe
from pipeline.curate.run import CurationSummary, Inputs, SplitCount, curate, examine_source

__all__ = [
    "CurationSummary",
    "Examination",
    "Inputs",
    "Progress",
    "Recipe",
    "Remaining",
    "SplitCount",
    "curate",
    "examine_source",
    "explain",
    "is_recipe",
    "read_recipe",
]
