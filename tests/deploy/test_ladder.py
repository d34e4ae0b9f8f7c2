"""The ladder of heat: one rung at a time, and never back and forth faster than its dwell times."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.health.ladder import COOL, HOLD, HOT, Dwell, State, rungs, smaller_sizes, step

DWELL = Dwell(10.0, 60.0)
_LOOKS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 1.0, 7.0, 100.0]) | st.floats(0, 300), st.sampled_from([COOL, HOLD, HOT])),
    max_size=200,
)


def _walk(looks: list[tuple[float, int]], top: int, dwell: Dwell = DWELL) -> list[tuple[float, int, State]]:
    """(time, pressure, state after it) of every look."""
    now, state, seen = 0.0, State(), []
    for wait, pressure in looks:
        now += wait
        state = step(state, now, pressure, top, dwell)
        seen.append((now, pressure, state))
    return seen


@given(_LOOKS, st.integers(0, 6))
def test_it_never_skips_a_rung_nor_leaves_the_ladder(looks, top):
    levels = [0] + [state.level for _, _, state in _walk(looks, top)]
    assert all(abs(after - before) <= 1 for before, after in pairwise(levels))
    assert 0 <= min(levels) <= max(levels) <= top


@given(_LOOKS, st.integers(1, 6))
def test_it_never_changes_faster_than_its_dwell(looks, top):
    before, last = 0, float("-inf")
    for now, pressure, state in _walk(looks, top):
        if state.level == before:
            continue
        is_worse = state.level > before
        assert pressure == (HOT if is_worse else COOL)
        assert now - last >= (DWELL.worse if is_worse else DWELL.better)
        before, last = state.level, now


@given(_LOOKS, st.integers(1, 6))
def test_it_goes_back_only_after_unbroken_coolness(looks, top):
    before, warm = 0, float("-inf")
    for now, pressure, state in _walk(looks, top):
        if pressure != COOL:
            warm = now
        if state.level < before:
            assert now - warm >= DWELL.better
        before = state.level


def test_heat_that_stays_reaches_the_top_and_coolness_the_ground():
    seen = _walk([(1.0, HOT)] * 60 + [(1.0, COOL)] * 400, top=4)
    changes = [now for (now, _, state), (_, _, old) in zip(seen[1:], seen, strict=False) if state.level != old.level]
    assert seen[0][2].level == 1  # at once: it was on no rung before
    assert changes == [11, 21, 31, 121, 181, 241, 301]


def test_rungs_follow_the_bundle():
    one, two = rungs(10, [(416, 416)]), rungs(10, [(416, 416), (288, 288), (416, 416), (608, 608)])
    assert [rung.name for rung in one] == ["normal", "slow", "quiet", "degraded"]
    assert [rung.name for rung in two] == ["normal", "slow", "small 288x288", "quiet", "degraded"]
    assert [tuple(rung.orders) for rung in two] == [
        (None, None, True, False),
        (10, None, True, False),
        (10, (288, 288), True, False),
        (10, (288, 288), False, False),
        (10, (288, 288), False, True),
    ]


@pytest.mark.parametrize(
    ("sizes", "smaller"),
    [([], ()), ([(288, 288), (416, 416)], ()), ([(416, 416), (224, 224), (288, 288)], ((288, 288), (224, 224)))],
)
def test_smaller_sizes_are_smaller_than_the_one_that_runs(sizes, smaller):
    assert smaller_sizes(sizes) == smaller
