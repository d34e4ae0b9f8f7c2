"""Skylight: from photos of a window to a detector that flies. This package runs on the workstation."""
