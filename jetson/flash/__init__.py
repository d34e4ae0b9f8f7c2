"""Putting an image on a module: find it, check everything, run NVIDIA's own scripts, keep a record."""
