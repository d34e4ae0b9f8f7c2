"""What `skylight export` does, with bars: the bundle of an experiment, or of any network. Prints nothing."""

from collections.abc import Callable
from pathlib import Path

from deploy.bundle import Bundle
from jetson.board import read_board
from pipeline.errors import refuse
from pipeline.experiment import Experiment
from pipeline.export.bundle import BundleWish, export_bundle
from pipeline.export.keys import chosen_key
from pipeline.export.source import best_trial, source_of_pair, source_of_trial
from pipeline.progress import Bars
from pipeline.train.pairing import Wish, read_pair
from pipeline.train.stages import plan_trials, require_current
from pipeline.workspace import Workspace

__all__ = ["export_best", "export_network"]


def export_best(
    experiment: Experiment, workspace: Workspace, bars: Bars, key_file: Path | None = None, board: str | None = None
) -> Bundle:
    """Export what the experiment chose, by default the best trial of a stage.

    key_file: of the key that signs it; by default the only one of this user, if there is one. board: in place of that
    of the experiment.

    Raises:
        UserError: the file has no key export, the trial is not up to date, or what `export_bundle` raises.
    """
    if experiment.export is None:
        raise refuse(f"experiment {experiment.name}", "has no key export", "add export: {stage: ..., name: ...}")
    key = chosen_key(key_file)
    trial = best_trial(experiment.export, plan_trials(experiment, workspace))
    require_current(experiment, trial, workspace)
    wish = BundleWish.of(experiment.export, read_board(board or experiment.export.board))
    return export_bundle(source_of_trial(experiment, trial), wish, workspace.bundles, key, _parity_bar(bars))


def export_network(
    wish: Wish, about: BundleWish, workspace: Workspace, bars: Bars, key_file: Path | None = None
) -> Bundle:
    """Export any network with its weights, checked on a set; see `read_pair`.

    Raises:
        UserError: what `read_pair` or `export_bundle` raises.
    """
    key = chosen_key(key_file)
    pair = read_pair(wish, workspace, bars.download(wish.weights or ""))
    return export_bundle(source_of_pair(pair), about, workspace.bundles, key, _parity_bar(bars))


def _parity_bar(bars: Bars) -> Callable[[str, int, int], None]:
    return lambda size, done, total: bars.show(f"parity at {size}", done, total, "")
