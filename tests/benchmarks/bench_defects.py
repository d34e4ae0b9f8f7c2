"""How many planted defects curation finds, and how many clean images it loses: before and after the cross-check.

    python tests/benchmarks/bench_defects.py ../shared/data/facades --root /tmp/defects

The source lies in the Open Images layout with truth/defects.csv beside labels/. A defect counts as found when its image
is not in the set, or when the second box of a doubled object is not. "by its rule" counts only the rules made for the
kind, and precision says what share of the images that these rules reject have the defect.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from measure import write_result
from planted import OWN_RULES, Planted, read_planted

from pipeline.curate import Examination, examine_source, read_recipe
from pipeline.curating import cross_check_recipe, curation_inputs
from pipeline.progress import Bars
from pipeline.workspace import Workspace

RECIPE = Path(__file__).resolve().parents[2] / "datasets" / "facades.yaml"


def main() -> None:
    """Print both tables and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--root", type=Path, default=Path("defects"), help="folder for what is measured and trained")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "defects.json")
    options = parser.parse_args()
    recipe, workspace = read_recipe(options.recipe), Workspace(options.root)
    planted = read_planted(options.source, recipe.classes[0])
    inputs = curation_inputs(options.recipe, recipe, options.source, workspace)
    with Bars() as bars:
        cross_check_recipe(options.recipe, options.source, workspace, bars)
    results = {}
    for title, given in (("before", replace(inputs, predictions=None)), ("after", inputs)):
        found = _measure(examine_source(recipe, given, lambda *_: None), planted)
        results[title] = found
        print(f"\n{title} the cross-check")
        print(f"{'defect':14} {'images':>6} {'found':>6} {'recall':>7} {'by its rule':>12} {'precision':>10}")
        for kind, row in found["kinds"].items():
            numbers = f"{row['images']:6} {row['found']:6} {row['recall']:7.2f} {row['recall_by_its_rule']:12.2f}"
            print(f"{kind:14} {numbers} {row['precision']:10.2f}")
        lost = found["clean_lost"]
        print(f"clean images lost: {lost} of {len(planted.clean)}, {100 * found['clean_lost_share']:.1f} %")
        print(f"by rule: {found['clean_lost_by_rule']}")
    write_result(options.out, sys.argv, results)


def _measure(examined: Examination, planted: Planted) -> dict:
    """Counts per kind of defect, and what clean images were lost to."""
    rules = _rejecting_rules(examined)
    kinds = {}
    for kind, own in OWN_RULES.items():
        ids = [name for name, found in planted.defect.items() if found == kind]
        rejected = [name for name in rules if rules[name] & own]
        hits = [name for name in rejected if planted.defect.get(name) == kind]
        found = [name for name in ids if rules.get(name)]
        kinds[kind] = {
            "images": len(ids),
            "found": len(found),
            "recall": len(found) / max(len(ids), 1),
            "recall_by_its_rule": len(hits) / max(len(ids), 1),
            "precision": len(hits) / max(len(rejected), 1),
        }
    lost = [name for name in planted.clean if rules.get(name, set()) - {"overlap"}]
    by_rule: dict[str, int] = {}
    for name in lost:
        for rule in rules[name]:
            by_rule[rule] = by_rule.get(rule, 0) + 1
    return {
        "kinds": kinds,
        "clean_lost": len(lost),
        "clean_lost_share": len(lost) / len(planted.clean),
        "clean_lost_by_rule": dict(sorted(by_rule.items())),
    }


def _rejecting_rules(examined: Examination) -> Mapping[str, set[str]]:
    """By image id the rule that dropped it, and `overlap` where a second box over an object went."""
    decisions = examined.decisions
    ids = decisions.annotations.image_ids
    rules = {
        name: {rule} for name, rule in zip(ids, decisions.images.rule, strict=True) if rule not in ("kept", "class")
    }
    for image in set(decisions.annotations.image[decisions.boxes.rule == "overlap"].tolist()):
        rules.setdefault(ids[image], set()).add("overlap")
    return rules


if __name__ == "__main__":
    main()
