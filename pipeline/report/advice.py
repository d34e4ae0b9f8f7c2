"""Advice as text for a terminal."""

from pipeline.report.columns import ruled
from pipeline.score.advise import Advice, Rated

__all__ = ["advice_text"]


def advice_text(advice: Advice) -> str:
    """The choice with its reasons, every arm that was probed, and what it cost."""
    best, *others = advice.rated
    lines = [f"stage {advice.stage}: {best.probe.arm.name}{_expected(best)}"]
    if others:
        lines.append(f"runner-up: {others[0].probe.arm.name}{_expected(others[0])}")
    rows = [["arm", "iterations", "AP", "loss on val", "predicted", "cost"]]
    finalists = {id(rated.probe): rated for rated in advice.rated}
    for probe in advice.probes:
        rated = finalists.get(id(probe))
        predicted = f"{100 * rated.prediction.ap50:.1f}" if rated and rated.prediction else "-"
        rows.append(
            [
                probe.arm.name,
                str(probe.iterations),
                f"{100 * probe.ap50:.1f}",
                f"{probe.loss:.2f}",
                predicted,
                f"{probe.cost:.1f}",
            ]
        )
    lines += ["", *ruled(rows), ""]
    for arm in advice.vetoed:
        layers = ", ".join(map(str, arm.untrained))
        lines.append(f"vetoed: {arm.name} freezes layers that its start never trained ({layers})")
    part = 100 * advice.cost / advice.sweep_cost
    lines.append(
        f"cost: {advice.cost:.1f} iterations that train every layer, {part:.0f} % of the sweep's "
        f"{advice.sweep_cost:.0f}; {advice.seconds:.1f} s of training"
    )
    if best.prediction is None:
        lines.append("no prediction: this version comes without a calibration")
    return "\n".join(lines)


def _expected(rated: Rated) -> str:
    prediction = rated.prediction
    if prediction is None:
        return f", AP {100 * rated.probe.ap50:.1f} % in its probe"
    return (
        f", predicted AP {100 * prediction.ap50:.0f} %, four times in five between "
        f"{100 * prediction.low:.0f} and {100 * prediction.high:.0f} %"
    )
