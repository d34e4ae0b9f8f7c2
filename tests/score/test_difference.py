"""Layer difference on hand-made weights: angles that are known, and what must hold for any weights."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.score.difference import drift, filter_differences, folded_kernel, over_null, vector_difference

SHAPE = (4, 3, 3, 3)
# Of one sign and well away from 0, so that every filter has a direction whatever hypothesis draws.
kernels = arrays.arrays(np.float64, SHAPE, elements=st.floats(0.1, 10))
angles = st.floats(0, math.pi)
scales = st.floats(1e-3, 1e3)


@given(angles, scales, st.integers(0, 2**31))
def test_a_kernel_turned_by_an_angle_differs_by_one_minus_its_cosine(angle: float, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, other = rng.standard_normal((2, math.prod(SHAPE)))
    before /= np.linalg.norm(before)
    other -= (other @ before) * before
    other /= np.linalg.norm(other)
    after = scale * (math.cos(angle) * before + math.sin(angle) * other)
    found = vector_difference(before.reshape(SHAPE), after.reshape(SHAPE))
    assert found == pytest.approx(abs(1 - math.cos(angle)), abs=1e-12)


@given(kernels, kernels)
def test_neither_side_comes_first(before: np.ndarray, after: np.ndarray) -> None:
    assert vector_difference(before, after) == vector_difference(after, before)
    assert np.array_equal(filter_differences(before, after), filter_differences(after, before))


@given(kernels, kernels, scales)
def test_length_does_not_matter(before: np.ndarray, after: np.ndarray, scale: float) -> None:
    expected = vector_difference(before, after)
    assert vector_difference(before, scale * after) == pytest.approx(expected, rel=1e-9, abs=1e-15)
    assert vector_difference(before, scale * before) < 1e-30


@given(arrays.arrays(np.float32, SHAPE, elements=st.floats(-100, 100, width=32)))
def test_what_is_equal_to_the_bit_differs_by_exactly_nothing(kernel: np.ndarray) -> None:
    assert vector_difference(kernel, kernel.copy()) == 0
    assert not filter_differences(kernel, kernel.copy()).any()
    assert drift(kernel, kernel.copy()) == 0


@given(kernels, st.integers(0, SHAPE[0] - 1))
def test_a_filter_that_turned_round_is_found_alone(kernel: np.ndarray, moved: int) -> None:
    after = kernel.copy()
    after[moved] *= -1
    found = filter_differences(kernel, after)
    assert found[moved] == pytest.approx(2)
    assert not np.delete(found, moved).any()


def test_small_angles_keep_their_digits() -> None:
    """1 - cos of 1e-9 is 5e-19, which computed as written is 0."""
    assert vector_difference(np.array([1.0, 0.0]), np.array([1.0, 1e-9])) == pytest.approx(5e-19, rel=1e-6)


def test_zeros_have_no_direction() -> None:
    zeros, kernel = np.zeros(3), np.ones(3)
    assert vector_difference(zeros, kernel) == vector_difference(kernel, zeros) == 1
    assert vector_difference(zeros, zeros) == 0


def test_folding_multiplies_each_filter_as_batch_norm_does() -> None:
    kernel = np.ones((2, 1, 1, 1), np.float32)
    folded = folded_kernel(kernel, np.array([2.0, 3.0]), np.array([4.0, 9.0]) - 1e-5, 1e-5)
    assert folded.ravel() == pytest.approx([1.0, 1.0])
    # Statistics that change by channel turn the folded kernel though the raw one stays.
    other = folded_kernel(kernel, np.array([2.0, 0.0]), np.array([4.0, 9.0]) - 1e-5, 1e-5)
    assert vector_difference(folded, other) == pytest.approx(1 - 1 / math.sqrt(2))


def test_drift_is_the_change_over_the_length() -> None:
    assert drift(np.array([3.0, 4.0]), np.array([3.0, 5.0])) == pytest.approx(0.2)
    assert drift(np.zeros(2), np.ones(2)) is None
    assert drift(np.zeros(2), np.zeros(2)) == 0


def test_nothing_is_divided_by_a_null_task_that_moved_nothing() -> None:
    assert over_null(0.3, 0.1) == pytest.approx(3)
    assert over_null(0.0, 0.0) is None
    assert over_null(None, 0.1) is None
    assert over_null(0.3, None) is None
