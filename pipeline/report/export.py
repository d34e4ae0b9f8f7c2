"""What lint and profile say of an ONNX file, for a terminal. Knows nothing of how it was found out."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jetson.board import Board
from pipeline.export.lint import Finding
from pipeline.report.columns import ruled

__all__ = ["lint_text"]

# Rows of a table; the rest is in the JSON.
_MOST_ROWS = 60


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
