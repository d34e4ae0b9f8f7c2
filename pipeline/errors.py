"""What a user can cause: one line that names the thing, what was found and what would do; exit status 2.

The class is the drone's own, so that one handler serves both sides. Where a docstring says that something is refused,
UserError is what is raised.
"""

from deploy.errors import UserError, refuse

__all__ = ["UserError", "refuse"]
