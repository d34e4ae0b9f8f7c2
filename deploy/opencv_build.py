"""What OpenCV's report on its own build says. Imports no OpenCV: the doctor has a child print the report."""

import re


def gstreamer_in(report: str) -> str:
    """What stands there of GStreamer, "YES (1.14.5)" or "NO"; "" where it is not mentioned.

    >>> gstreamer_in("    GStreamer:                   YES (1.14.5)")
    'YES (1.14.5)'
    """
    found = re.search(r"^\s*GStreamer:\s*(YES.*|NO.*)$", report, re.MULTILINE)
    return " ".join(found.group(1).split()) if found else ""
