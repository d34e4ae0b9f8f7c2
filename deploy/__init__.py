"""What flies: the bundle format, the resize, decode and NMS that everything shares, and the loop. Apache-2.0."""
