"""Which start, how many frozen layers, and how sure we are."""
