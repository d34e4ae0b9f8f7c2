"""The flight log: what was seen, sent and happened, on disk so that a crash costs the last second at most."""
