"""Every verdict on learning curves is reached by curves that deserve it, and says by which rule."""

import pytest

from pipeline.train.curves import diagnose

STEPS = (50, 100, 150, 200, 250, 300)


def _points(train: list[float], val: list[float]) -> list[tuple[int, float, float | None]]:
    return list(zip(STEPS, train, val, strict=True))


@pytest.mark.parametrize(
    ("train", "val", "verdict", "rule"),
    [
        ([9, 5, 3, 2.5, 2.4, 2.4], [9, 5, 3.2, 2.8, 2.7, 2.7], "good fit", "levelled off"),
        ([9, 5, 3, 2, 1.2, 0.7], [9, 5, 3, 3.1, 3.6, 4.2], "overfitting", "40 % above its lowest, at 150"),
        ([9, 7, 6, 5, 4, 3], [9, 7, 6, 5, 4, 3.1], "underfitting", "since iteration 250"),
        ([9, 5, 3, 2.5, 2.4, 2.4], [9, 2, 6, 2, 7, 2], "unrepresentative validation", "up and down"),
        ([9, 5, 3, 2.5, 2.4, 2.4], [9, 1, 0.8, 0.7, 0.7, 0.7], "unrepresentative validation", "easier"),
    ],
)
def test_curves_are_judged_with_the_rule_that_fired(
    train: list[float], val: list[float], verdict: str, rule: str
) -> None:
    found = diagnose(_points(train, val))
    assert found.verdict == verdict
    assert rule in found.rule


def test_few_points_without_fault_are_not_praised() -> None:
    points = _points([9, 5, 3, 2.5, 2.4, 2.4], [9, 5, 3.2, 2.8, 2.7, 2.7])[1:]
    assert diagnose(points).verdict == "unknown"


def test_too_few_points_or_no_loss_on_val_say_nothing() -> None:
    assert diagnose(_points([9, 5, 3, 2, 1, 1], [9, 5, 3, 2, 1, 1])[:3]).verdict == "unknown"
    assert diagnose([(step, 1.0, None) for step in STEPS]).verdict == "unknown"
