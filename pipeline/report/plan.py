"""A transfer plan as text for a terminal."""

from pipeline.score.plan import Plan

__all__ = ["plan_text"]


def plan_text(plan: Plan) -> str:
    """What was measured, the case, what follows from it with reasons, and the lines for an experiment file."""
    similarity = plan.similarity
    own = "not at hand, taken as half of that" if similarity.near is None else f"{similarity.near:.2f}"
    lines = [
        f"{plan.target} from {plan.start}",
        f"  size           {plan.images} photos, {plan.boxes} boxes in train (large from {plan.large_from} photos)",
        f"  similarity     {similarity.value:.2f} (similar from {plan.similar_from:g})",
        f"                 deviations from what its batch norm knows: {similarity.target:.2f};",
        f"                 of its own photos {own}, of scrambled ones {similarity.far:.2f}",
        f"  case           {plan.case}",
        f"  freeze         {plan.freeze}",
        f"  layers         {'all' if plan.layers is None else f'those before {plan.layers}'}",
        f"  learning rate  {plan.learning_rate:g}",
        *(f"  - {reason}" for reason in plan.reasons),
    ]
    return "\n".join(lines)
