"""The version of what flies: here that of the last release; the Debian package writes its own in place of it."""

VERSION = "0.1.0"
