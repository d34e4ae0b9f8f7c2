"""Skylight: from photos of a window to a detector that flies. This package runs on the workstation.

A package per stage, each of which imports earlier ones only; `experiment`, `curated` and `workspace` are what they hand
on. `curating`, `training`, `scoring`, `reporting`, `exporting`, `calibrating` and `demo` are scripts over the stages,
with bars and files, as commands run them; `cli` has the commands' words.
"""
