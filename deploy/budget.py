"""Which stage of the loop takes longer than it may, said once and not at every frame."""

from collections import deque
from typing import Deque, Dict, Mapping

from deploy.events import Events

_WINDOW = 50  # frames
_MUST = 0.5  # of a window, to be over the budget
_MAY = 0.1  # of a window, to be within it again


class Budget:
    """Watches stages against their milliseconds.

    limits: by stage; a stage without one is never over. over: stages over their budget now, with the share of the last
    50 frames in which they were.
    """

    def __init__(self, limits: Mapping[str, float], events: Events) -> None:
        self.limits = dict(limits)
        self.over: Dict[str, float] = {}
        self._events = events
        self._seen: Dict[str, Deque[bool]] = {stage: deque(maxlen=_WINDOW) for stage in limits}

    def check(self, milliseconds: Mapping[str, float]) -> None:
        """Take what one frame's stages took."""
        for stage, seen in self._seen.items():
            if stage not in milliseconds:
                continue
            seen.append(milliseconds[stage] > self.limits[stage])
            share = sum(seen) / _WINDOW
            if stage in self.over:
                self.over = dict(self.over, **{stage: share})
                if share <= _MAY:
                    self._end(stage)
            elif share >= _MUST:
                self._begin(stage, share, milliseconds[stage])

    def _begin(self, stage: str, share: float, taken: float) -> None:
        self.over = dict(self.over, **{stage: share})
        text = "{} took {:.1f} ms, its budget is {:g} ms, and {:.0%} of the last {} frames were over it"
        self._events.add("warning", "budget." + stage, text.format(stage, taken, self.limits[stage], share, _WINDOW))

    def _end(self, stage: str) -> None:
        self.over = {name: share for name, share in self.over.items() if name != stage}
        self._events.add("info", "budget." + stage, "{} is within {:g} ms again".format(stage, self.limits[stage]))
