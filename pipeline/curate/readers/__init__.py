"""Reads sources of many formats into `Annotations`."""
