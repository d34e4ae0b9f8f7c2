"""Means over classes, counted by hand."""

import pytest
import torch

from pipeline.score.figures import figures


def test_means_are_over_the_classes_that_have_crops() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1])
    predicted = torch.tensor([0, 0, 0, 1, 1, 2])
    found = figures(predicted, labels, ("a", "b", "c"))
    assert found.confusion == ((3, 1, 0), (0, 1, 1), (0, 0, 0))
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.mean_class_accuracy == found.mean_recall == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert found.mean_precision == pytest.approx((1 + 1 / 2) / 2)
    assert found.mean_f1 == pytest.approx((6 / 7 + 1 / 2) / 2)
    assert [entry.crops for entry in found.per_class] == [4, 2, 0]
    assert [entry.accuracy for entry in found.per_class] == [pytest.approx(0.75), pytest.approx(0.5), None]


def test_one_class_alone_is_judged_too() -> None:
    found = figures(torch.tensor([0, 0]), torch.tensor([0, 0]), ("a",))
    assert (found.mean_f1, found.confusion) == (1.0, ((2,),))
