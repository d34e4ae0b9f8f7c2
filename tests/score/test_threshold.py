"""From differences and a threshold to an experiment file's freeze, under each reading of the rule."""

from pathlib import Path

import pytest
import yaml

from pipeline.errors import UserError
from pipeline.experiment import Stage
from pipeline.score.difference import LayerDifference
from pipeline.score.outline import Convolution, Outline
from pipeline.score.threshold import freeze_line, freeze_value, layer_figures, write_freeze

# A layer of two convolutions (0), ones of one (2, 3, 5), and a last one without (7).
LAYERS = (0, 0, 2, 3, 5)
RAW = (0.001, 0.02, 0.001, 0.5, 0.01)


def _found(raw: tuple[float | None, ...] = RAW) -> tuple[Outline, dict[int, float | None]]:
    convolutions = tuple(Convolution(i, n, str(i), "trunk", f"{i}.weight", None) for i, n in enumerate(LAYERS))
    rows = [
        LayerDifference(c, None if value is not None else "re-initialised", value)
        for c, value in zip(convolutions, raw, strict=True)
    ]
    return Outline("drawn", convolutions, (0, 2, 3, 5, 7)), layer_figures(rows, is_folded=False)


def test_a_layer_is_as_different_as_its_most_different_convolution() -> None:
    assert _found()[1] == {0: 0.02, 2: 0.001, 3: 0.5, 5: 0.01}


def test_each_rule_freezes_its_own_layers() -> None:
    outline, figures = _found()
    assert freeze_value(outline, figures, 0.02, "below") == (0, 2, 5)
    assert freeze_value(outline, figures, 0.02, "prefix") == 3
    assert freeze_value(outline, figures, 0.02, "above") == (3,)
    assert freeze_value(outline, figures, 0.015, "below") == (2, 5)
    assert freeze_value(outline, figures, 0.015, "prefix") == 0
    assert freeze_value(outline, figures, 1, "above") == 0


def test_what_was_not_scored_is_never_frozen_and_ends_a_prefix() -> None:
    outline, figures = _found((0.001, 0.001, None, 0.001, 0.001))
    assert freeze_value(outline, figures, 0.1, "below") == (0, 3, 5)
    assert freeze_value(outline, figures, 0.1, "prefix") == 2
    assert freeze_value(outline, figures, 0.0001, "above") == (0, 3, 5)


def test_freezing_everything_is_refused() -> None:
    outline, figures = _found()
    whole = Outline("drawn", outline.convolutions, (0, 2, 3, 5))
    for rule in ("below", "prefix"):
        with pytest.raises(UserError, match="give a lower one"):
            freeze_value(whole, figures, 1.0, rule)
    with pytest.raises(UserError, match="give a higher one"):
        freeze_value(whole, figures, 0.0, "above")
    with pytest.raises(UserError, match="from 0 to 2"):
        freeze_value(whole, figures, float("nan"), "below")


@pytest.mark.parametrize(("value", "frozen"), [(13, 13), (0, 0), ((0, 2, 4), (0, 2, 4))])
def test_what_is_written_is_what_a_stage_reads(tmp_path: Path, value: int | tuple[int, ...], frozen: object) -> None:
    write_freeze(tmp_path / "freeze.yaml", value, "about")
    content = yaml.safe_load((tmp_path / "freeze.yaml").read_text())
    assert Stage(name="a", data="b", iterations=1, **content).freeze == (frozen,)
    assert freeze_line(value) in (tmp_path / "freeze.yaml").read_text()
    with pytest.raises(UserError, match="is there already"):
        write_freeze(tmp_path / "freeze.yaml", value, "about")
