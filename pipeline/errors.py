"""What a user can cause: one line that names the thing, what was found and what would do; exit status 2.

The class is the drone's own, so that one handler serves both sides.
"""

from deploy.errors import UserError, refuse

__all__ = ["UserError", "refuse"]
