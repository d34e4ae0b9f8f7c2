"""The clock of the autopilot, measured over a line that delays and loses: MAVLink's TIMESYNC.

https://mavlink.io/en/services/timesync.html. Knows nothing of the messages, only of their times, in nanoseconds.
"""

from collections import OrderedDict, deque
from typing import Deque, NamedTuple, Optional, Tuple

_KEPT = 16  # samples
_ENOUGH = 5
_ASKED = 32  # requests whose answers are waited for
_SLOWEST = 500000000  # ns; an answer that took longer says nothing
_SLACK = 2000000  # ns beyond half the way there and back: clocks that drift, an autopilot that answers in a slow loop
_UNCERTAIN = 20000000  # ns of way there and back with which a time is no longer told
_CONTRADICTIONS = 3  # answers in a row that agree with each other and not with what was known


class _Sample(NamedTuple):
    """offset: the autopilot's clock less ours, right to half of round_trip."""

    offset: int
    round_trip: int

    def agrees(self, other: "_Sample") -> bool:
        """Whether both can be true of the same clocks."""
        return abs(self.offset - other.offset) <= (self.round_trip + other.round_trip) // 2 + _SLACK


class TimeSync:
    """The autopilot's clock less ours. An answer that contradicts the others is not believed, three in a row are.

    The offset is that of the quickest of the newest answers, which is the surest (the clock filter of NTP: RFC 5905).
    One thread asks and answers; any thread may look, so the samples are replaced and never changed.
    """

    def __init__(self) -> None:
        self._asked: "OrderedDict[int, None]" = OrderedDict()
        self._samples: Tuple[_Sample, ...] = ()
        self._contrary: Deque[_Sample] = deque(maxlen=_CONTRADICTIONS)
        self.jumps = 0

    @property
    def is_settled(self) -> bool:
        """Whether the offset is known well enough to tell times by it."""
        return _is_settled(self._samples)

    @property
    def is_doubted(self) -> bool:
        """Whether the newest answer contradicted the others."""
        return bool(self._contrary)

    @property
    def round_trip(self) -> Optional[int]:
        """Of the quickest of the newest answers, ns."""
        samples = self._samples
        return _best(samples).round_trip if samples else None

    @property
    def offset(self) -> Optional[int]:
        """The autopilot's clock less ours, ns; None while it is not known."""
        samples = self._samples
        return _best(samples).offset if _is_settled(samples) else None

    def asked(self, sent: int) -> None:
        """Note that a request with our time `sent` went out."""
        self._asked[sent] = None
        while len(self._asked) > _ASKED:
            self._asked.popitem(last=False)

    def answered(self, sent: int, theirs: int, received: int) -> bool:
        """Take an answer: our time in the request, the autopilot's, and ours now. Returns whether its clock jumped."""
        if sent not in self._asked:
            return False  # an answer to somebody else, or the second one to us
        del self._asked[sent]
        round_trip = received - sent
        if not 0 <= round_trip <= _SLOWEST:
            return False
        sample = _Sample(theirs - (sent + received) // 2, round_trip)
        if not self._samples or sample.agrees(_best(self._samples)):
            self._contrary.clear()
            self._samples = (self._samples + (sample,))[-_KEPT:]
            return False
        if self._contrary and not sample.agrees(self._contrary[-1]):
            self._contrary.clear()
        self._contrary.append(sample)
        if len(self._contrary) < _CONTRADICTIONS:
            return False
        self._samples = tuple(self._contrary)
        self._contrary.clear()
        self.jumps += 1
        return True

    def to_theirs(self, ours: int) -> Optional[int]:
        """A time of ours on the autopilot's clock, None where that is not known or would be before its zero."""
        offset = self.offset
        return None if offset is None or ours + offset < 0 else ours + offset

    def reset(self) -> None:
        """Forget everything: another autopilot, or the same one started anew."""
        self._samples = ()
        self._contrary.clear()
        self._asked.clear()


def _best(samples: Tuple[_Sample, ...]) -> _Sample:
    return min(samples, key=lambda sample: sample.round_trip)


def _is_settled(samples: Tuple[_Sample, ...]) -> bool:
    return len(samples) >= _ENOUGH and _best(samples).round_trip <= _UNCERTAIN
