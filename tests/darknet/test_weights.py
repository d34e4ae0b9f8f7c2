"""Darknet's weights files: byte for byte, partial, truncated, damaged."""
