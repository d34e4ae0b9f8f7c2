"""What lint and profile say of an ONNX file, for a terminal. Knows nothing of how it was found out."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jetson.board import Board
from pipeline.export.lint import Finding
from pipeline.export.profile import Layer, Profile
from pipeline.report.columns import ruled

__all__ = ["lint_text", "profile_text"]

# Rows of a table; the rest is in the JSON.
_MOST_ROWS = 60
# Layers below this share of the time, measured and estimated, stand in one row.
_SMALL_SHARE = 0.005


def lint_text(file: Path, board: Board, findings: Sequence[Finding]) -> str:
    """A row per finding, and the verdict."""
    counts = Counter(finding.severity for finding in findings)
    reads = f"{board.parser.name}, opset {board.opset[0]} to {board.opset[1]}"
    verdict = "not taken" if counts["error"] else "taken"
    said = [f"{counts[name]} {name}{'s' if counts[name] > 1 else ''}" for name in ("error", "warning") if counts[name]]
    last = f"{file} on {board.name} ({reads}): {verdict}, {', '.join(said) or 'nothing against it'}"
    if not findings:
        return last
    rows = [[f.severity, f.operator, f.node, f.reason, f.remedy] for f in findings[:_MOST_ROWS]]
    lines = ruled([["", "operator", "node", "reason", "remedy"], *rows], left=5)
    if len(findings) > _MOST_ROWS:
        lines.append(f"and {len(findings) - _MOST_ROWS} more; --json has them all")
    return "\n".join([*lines, last])


def profile_text(found: Profile) -> str:
    """A row per layer that matters, the totals, and what is measured and what is not."""
    shares = {id(layer): _shares(layer, found) for layer in found.layers}
    large = [layer for layer in found.layers if max(shares[id(layer)]) >= _SMALL_SHARE]
    small = [layer for layer in found.layers if max(shares[id(layer)]) < _SMALL_SHARE]
    head = ["layer", "operators", "ms here", "%", "MFLOP", "weights kB", "moved kB", "FLOP/byte"]
    rows = [[layer.name, "+".join(layer.operators), *_figures([layer], found)] for layer in large]
    if small:
        rows.append([f"{len(small)} others", "", *_figures(small, found)])
    rows.append(["total", "", *_figures(found.layers, found)])
    if found.board is not None and found.estimate is not None:
        head += [f"ms {found.board}*", "%", "bound"]
    lines = [found.model, *ruled([head, *rows], left=2)]
    lines.append(f"measured here: {found.machine}; median of {found.runs} runs, batch 1")
    lines.append(f"the whole network with every optimisation: {found.whole:.2f} ms")
    if found.board is not None and found.estimate is not None:
        lines.append(
            f"* an estimate, not measured: the roofline of {found.board} in {found.precision}, which no engine reaches"
        )
    elif found.board is not None:
        lines.append(f"{found.board} has no peak figures: what is measured here is all there is")
    convolutions = f"{found.convolution_flops / 1e9:.3f} of them in convolutions (a multiply-add is 2)"
    held = f"{found.weights / 2**20:.1f} MiB of weights, largest activation {found.largest_activation / 2**20:.2f} MiB"
    lines.append(f"{found.flops / 1e9:.3f} GFLOP, {convolutions}; in {found.precision} {held}")
    if found.uncounted:
        lines.append(f"not counted, since their shapes are unknown: {', '.join(found.uncounted)}")
    return "\n".join(lines)


def _shares(layer: Layer, found: Profile) -> tuple[float, float]:
    """Of the measured and of the estimated time."""
    estimated = (layer.estimate or 0.0) / found.estimate if found.estimate else 0.0
    return layer.milliseconds / found.measured if found.measured else 0.0, estimated


def _figures(layers: Sequence[Layer], found: Profile) -> list[str]:
    """The cells of a row over some layers."""
    milliseconds = sum(layer.milliseconds for layer in layers)
    operations = sum(layer.flops for layer in layers)
    weights, activations = sum(layer.weights for layer in layers), sum(layer.activations for layer in layers)
    moved = weights + activations
    cells = [f"{milliseconds:.3f}", f"{100 * sum(_shares(layer, found)[0] for layer in layers):.1f}"]
    cells += [f"{operations / 1e6:.1f}", f"{weights / 1e3:.1f}", f"{moved / 1e3:.1f}"]
    cells.append(f"{operations / moved:.1f}" if moved else "-")
    if found.estimate is None:
        return cells
    bounds = {layer.bound for layer in layers}
    estimate = sum(layer.estimate or 0.0 for layer in layers)
    share = 100 * sum(_shares(layer, found)[1] for layer in layers)
    return [*cells, f"{estimate:.3f}", f"{share:.1f}", (bounds.pop() or "") if len(bounds) == 1 else ""]
