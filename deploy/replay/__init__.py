"""Another bundle on the frames of a flight, and what it finds otherwise."""
