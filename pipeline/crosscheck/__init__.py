"""Judges the labels of a source by networks that never saw them: who was trained on one part predicts on the others."""

from pipeline.crosscheck.run import cross_check

__all__ = ["cross_check"]
