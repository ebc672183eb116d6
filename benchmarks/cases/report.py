"""CPU seconds of a report of many finished attacks, from the command line to the exit."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from benchmarks.case import SECONDS, Case, Sides, require
from benchmarks.networks import Subject
from benchmarks.processes import ROOT, RUN, folder, python

DEFENSES = {"none": 0.5, **{f"madry_l2-{tenths / 10:g}": 0.45 - 0.03 * tenths for tenths in range(1, 10)}}
"""Name -> how far the attack moves its maps."""
ATTRIBUTIONS = {"saliency": 1.0, "integrated_gradients": 0.8, "smoothgrad": 0.6, "uniform_gradient": 0.7}
ATTACKS = {"topk": 1.0, "manipulate": 0.7}


def report(subject: Subject) -> Sides:
    """80 configurations (10 defenses, 4 attributions, 2 attacks) of 5 seeds, 50 examples at 11 budgets, galleries, histories."""
    outputs = folder()
    cells = _fill(outputs, subject.size(5, 1), subject.size(50, 8))
    arguments = [RUN, "job=report", "report.runs=[*]", "report.name=many", f"outputs={outputs}"]
    page = outputs / "reports" / "many" / "index.html"

    def check() -> str:
        told = python(arguments)
        require(told.returncode == 0, f"exit code {told.returncode} {told.stderr[-300:]}")
        text = page.read_text(encoding="utf-8")
        named = all(text.count(f">{defense}") >= len(ATTRIBUTIONS) * len(ATTACKS) for defense in DEFENSES)
        return require(named, f"{cells} cells, every configuration on a page of {len(text) / 1e6:.1f} MB")

    def run() -> None:
        python(arguments)

    return Sides(check, {"ours": run})


def _fill(outputs: Path, seeds: int, examples: int) -> int:
    """Write the finished attacks of a synthetic store; returns how many there are."""
    sys.path.append(str(ROOT / "tests" / "report"))
    store = import_module("synthetic_store").Store(outputs)
    sys.path.pop()
    for place, (defense, strength) in enumerate(DEFENSES.items()):
        for attribution, by_map in ATTRIBUTIONS.items():
            for attack, by_attack in ATTACKS.items():
                for seed in range(seeds):
                    store.attack(
                        *(defense, seed),
                        strength=strength * by_map * by_attack,
                        accuracy=0.95 - 0.01 * place,
                        attribution=attribution,
                        attack=attack,
                        stochastic=attribution == "smoothgrad",
                        examples=examples,
                        size=(1, 28, 28),
                    )
    return len(store.folders)


CASES = (Case("report", "report of 400 cells, 80 groups, CPU seconds", "none", 6.0, report, SECONDS, where=("one",)),)
