"""What an iteration sees depends on the seed and its number alone, and every picture is seen once per round."""

import pytest
import torch

from pipeline.train.schedule import Schedule, learning_rate, view_count


def test_every_picture_is_seen_once_per_round_in_another_order() -> None:
    schedule = Schedule(count=10, batch=4, seed=3, views=0)
    seen = torch.cat([schedule.batch(iteration).images for iteration in range(5)])
    assert seen[:10].sort().values.tolist() == seen[10:].sort().values.tolist() == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()


def test_any_iteration_can_be_asked_for_first() -> None:
    inorder = Schedule(count=7, batch=16, seed=0, views=3)
    expected = [inorder.batch(iteration) for iteration in range(6)]
    for iteration in (5, 0, 3):
        alone = Schedule(count=7, batch=16, seed=0, views=3).batch(iteration)
        assert torch.equal(alone.images, expected[iteration].images)
        assert torch.equal(alone.views, expected[iteration].views)


def test_stored_views_are_used_in_turn_and_others_are_new_in_every_round() -> None:
    stored = torch.cat([Schedule(4, 4, 0, 3).batch(iteration).views for iteration in range(7)])
    assert stored[::4].tolist() == [0, 1, 2, 0, 1, 2, 0]
    fresh = torch.cat([Schedule(4, 4, 0, 0).batch(iteration).views for iteration in range(7)])
    assert fresh[::4].tolist() == list(range(7))


@pytest.mark.parametrize(("iterations", "count", "views"), [(300, 87, 7), (300, 1000, 4), (10, 160, 1), (2, 16, 2)])
def test_as_many_views_are_kept_as_are_used_eight_times(iterations: int, count: int, views: int) -> None:
    assert view_count(iterations, 16, count) == views


def test_learning_rate_burns_in_with_the_fourth_power_and_then_steps() -> None:
    steps = {20: 0.1, 30: 0.5}
    rates = [learning_rate(0.01, 10, steps, iteration) for iteration in (0, 4, 9, 10, 19, 20, 29, 30)]
    assert rates == pytest.approx([1e-6, 0.01 * 0.5**4, 0.01, 0.01, 0.01, 0.001, 0.001, 0.0005])
