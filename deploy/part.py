"""What hangs on the flight loop and is told what was seen: autopilot, web page, flight log, tracks on a screen.

The loop calls all of these in its own thread. They return at once, and what goes wrong outside (a link that is down, a
full disk, a slow reader) is counted and told through `status` and events, never raised.
"""

from typing import Any, Dict, Sequence, Tuple

from deploy.bundle import Bundle
from deploy.frame import Observation


class Part:
    """Does nothing; a part overrides what concerns it.

    name: one word, for status and events. is_vital: whether the loop must end where this part raises.
    """

    name = "part"
    is_vital = False

    def publish(self, observation: Observation) -> None:
        """Take what a frame told. It may be older than its limit; then it must not be told as current."""

    def idle(self, now: float) -> None:
        """Called about ten times a second while there is no frame. now: seconds on the monotonic clock."""

    def change(self, bundle: Bundle, sizes: Sequence[Tuple[int, int]]) -> None:
        """Take that another bundle flies from the next frame on. sizes: (width, height) of its networks, pixels."""

    def status(self) -> Dict[str, Any]:
        """JSON values for page, metrics and doctor, by name; called from any thread."""
        return {}

    def close(self) -> None:
        """Give back what is held; called once, also after an error."""
