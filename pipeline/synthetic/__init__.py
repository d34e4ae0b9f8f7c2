"""Draws what the demo needs and nobody has to photograph: building fronts with labels, and a fly-by video.

Every picture is drawn. It shows that the line from photos to a flying detector works; it says nothing about how well a
detector does on real buildings.
"""
