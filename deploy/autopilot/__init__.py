"""Tells the autopilot where the target is, over MAVLink, and nothing when that is not known."""
