"""What the answer says of how much faster, and of how sure it is."""

import pytest

from pipeline.report.answer import effort_to
from pipeline.report.blocks import Line, Plot, Section, Table, Text
from pipeline.report.evidence import FoundStage
from pipeline.report.page import render
from pipeline.report.table import Arm, reached
from pipeline.train.trial import Evaluation


def arm(start: str, seed: int, aps: list[float]) -> Arm:
    """AP at iterations 10, 20, ..., a second and a thousandth of dose each iteration."""
    evaluations = tuple(
        Evaluation(10 * place, 10.0 * place, 0.01 * place, ap, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0)
        for place, ap in enumerate(aps, 1)
    )
    best = max(evaluations, key=lambda one: one.ap50)
    return Arm(start, "0", seed, evaluations, best, reached(evaluations, 0.5), 100.0, "good fit: levelled off", False)


def test_effort_is_the_mean_of_the_seeds_that_got_there() -> None:
    effort = effort_to([arm("a", 0, [0.2, 0.8]), arm("a", 1, [0.8, 0.9]), arm("a", 2, [0.1, 0.2])], 0.7)
    assert effort is not None
    assert (effort.iterations, effort.seconds, effort.count, effort.seeds) == (15, 15, 2, 3)
    assert effort.dose == pytest.approx(0.015)
    assert not effort.is_of_all
    assert effort_to([arm("a", 0, [0.2])], 0.7) is None


@pytest.mark.parametrize(
    ("others", "is_settled"), [([0.60, 0.61, 0.62], True), ([0.80, 0.95, 0.86], False)], ids=["clear", "close"]
)
def test_a_lead_within_the_seeds_spread_is_not_called_one(
    others: list[float], is_settled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.experiment import Stage, Start
    from pipeline.report import answer

    arms = [arm("ours", seed, [ap]) for seed, ap in enumerate([0.90, 0.91, 0.92])]
    arms += [arm("theirs", seed, [ap]) for seed, ap in enumerate(others)]
    stage = FoundStage(Stage(name="s", data="d", starts=(Start(name="ours"),), iterations=10), (), ())
    monkeypatch.setattr(FoundStage, "arms", arms)
    assert stage.best == ("ours", "0")
    assert ("not settled" not in answer._settled(stage)) is is_settled


def test_words_are_escaped_and_backticks_are_code() -> None:
    bad = "</script><script>alert(1)</script>"
    plot = Plot("p", bad, bad, "x", "y", (0.0,), (Line(bad, (1.0,), 0, 0),))
    page = render(bad, (Section("s", bad, (Text(f"`{bad}`"), Table(bad, (bad,), ((bad,),)), plot), (bad,)),))
    assert "alert(1)</script>" not in page
    assert "<code>&lt;/script&gt;" in page
    assert page.count("<script") == 3


def test_zero_is_not_drawn_on_a_logarithmic_axis_but_stands_in_the_table() -> None:
    plot = Plot("p", "t", "", "layer", "difference", (0.0, 2.0), (Line("a", (0.0, 0.5), 0, 0),), None, True)
    assert plot.as_dict()["lines"][0]["values"] == [None, 0.5]
    assert plot.table().rows == (("0", "0"), ("2", "0.5"))


def test_a_bar_is_a_part_of_the_largest() -> None:
    table = Table("c", ("rule", "images"), (("read", "200"), ("kept", "50")), bar=1)
    assert table.shares == (100.0, 25.0)
    assert Table("c", ("rule",), (("read",),)).shares == ()
