"""The ladder of heat: what the flight does less of, one rung at a time, and when it goes back. No clock, no files.

normal -> slow (lower rate) -> small (a smaller network, one rung per size that the bundle holds)
       -> quiet (no pictures are streamed) -> degraded (declared so)
"""

from typing import NamedTuple, Optional, Sequence, Tuple

# What the sensors say together.
COOL, HOLD, HOT = -1, 0, 1


class Orders(NamedTuple):
    """What the loop is to keep to.

    max_rate: frames a second, None for as many as come. size: (width, height) of the network's input, pixels, None for
    the bundle's first. may_stream: whether pictures may be sent to the web page. is_degraded: whether to declare so.
    """

    max_rate: Optional[float] = None
    size: Optional[Tuple[int, int]] = None
    may_stream: bool = True
    is_degraded: bool = False


class Rung(NamedTuple):
    """A name for people, and what holds there."""

    name: str
    orders: Orders


class Dwell(NamedTuple):
    """Seconds. worse: between two changes, before a rung up. better: of coolness on a rung, before one down."""

    worse: float
    better: float


class State(NamedTuple):
    """level: rung, 0 is normal. changed: when it was entered. cool_since: since when it is cool without a break.

    Seconds on the monotonic clock.
    """

    level: int = 0
    changed: float = float("-inf")
    cool_since: Optional[float] = None


def rungs(max_rate: float, sizes: Sequence[Tuple[int, int]]) -> Tuple[Rung, ...]:
    """The rungs for a bundle whose models have `sizes`, (width, height), that of the one that runs first.

    A bundle with one size has no rung `small`; of several smaller ones the larger comes first.

    >>> [rung.name for rung in rungs(10, [(416, 416), (288, 288)])]
    ['normal', 'slow', 'small 288x288', 'quiet', 'degraded']
    """
    orders = Orders()
    ladder = [Rung("normal", orders)]
    orders = orders._replace(max_rate=max_rate)
    ladder.append(Rung("slow", orders))
    for width, height in smaller_sizes(sizes):
        orders = orders._replace(size=(width, height))
        ladder.append(Rung("small {}x{}".format(width, height), orders))
    orders = orders._replace(may_stream=False)
    ladder.append(Rung("quiet", orders))
    ladder.append(Rung("degraded", orders._replace(is_degraded=True)))
    return tuple(ladder)


def smaller_sizes(sizes: Sequence[Tuple[int, int]]) -> Tuple[Tuple[int, int], ...]:
    """Those with fewer pixels than the first, each once, the largest first."""
    if not sizes:
        return ()
    own = sizes[0][0] * sizes[0][1]
    smaller = {size for size in sizes if size[0] * size[1] < own}
    return tuple(sorted(smaller, key=lambda size: (-size[0] * size[1], size)))


def same_level(orders: Orders, ladder: Sequence[Rung]) -> int:
    """The level on another bundle's ladder that asks for no less than `orders` did: the lowest of them.

    >>> small = rungs(10, [(416, 416), (288, 288)])[2]
    >>> [rungs(10, sizes)[same_level(small.orders, rungs(10, sizes))].name for sizes in ([(416, 416)], [(608, 608)])]
    ['quiet', 'quiet']
    """
    wanted = _severity(orders)
    return next(level for level, rung in enumerate(ladder) if _severity(rung.orders) >= wanted)


def step(state: State, now: float, pressure: int, top: int, dwell: Dwell) -> State:
    """The state after a look at the sensors: at most one rung away.

    now: seconds on the monotonic clock. pressure: COOL, HOLD or HOT. top: the highest level.
    """
    cool_since = state.cool_since if state.cool_since is not None else now
    state = state._replace(cool_since=cool_since if pressure == COOL else None)
    if pressure == HOT and state.level < top and now - state.changed >= dwell.worse:
        return State(state.level + 1, now)
    if state.level > 0 and pressure == COOL and now - max(cool_since, state.changed) >= dwell.better:
        return State(state.level - 1, now, cool_since)
    return state


def _severity(orders: Orders) -> Tuple[int, int]:
    """How much the orders ask for, to compare rungs of two bundles; among small networks the smaller asks for more."""
    if orders.is_degraded:
        return 4, 0
    if not orders.may_stream:
        return 3, 0
    if orders.size is not None:
        return 2, -orders.size[0] * orders.size[1]
    return (1, 0) if orders.max_rate is not None else (0, 0)
