"""The program itself: CPU seconds to plan a sweep and to find that there is nothing to do; `import torch` shows the machine."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.case import SECONDS, Case, Sides, require
from benchmarks.networks import Subject
from benchmarks.processes import RUN, folder, python

SMALL = (
    *("dataset=digits", "model=mlp", "tracking=none", "dataset.train_size=100", "dataset.test_size=50"),
    *("training.epochs=1", "examples=2", "attack.steps=1", "epsilon.stop=0.2", "epsilon.step=0.2"),
)
UNUSED = ("torch", "torch._dynamo", "sympy", "matplotlib", "scipy.stats", "pandas", "wandb", "sklearn", "torchvision")
"""Packages that a command with nothing to do should not import."""
NOTHING_TO_DO, MISSING = 0, 3
"""Exit codes of a dry run."""


def planning(filled: bool) -> Callable[[Subject], Sides]:
    """A dry run of the sweep over all defenses, with an empty store or with all of its runs finished."""

    def prepare(subject: Subject) -> Sides:
        outputs = folder()
        wanted = ["-m", "+sweeps=quickstart" if subject.tiny else "+sweeps=all_defenses"]
        arguments = [*wanted, f"outputs={outputs}", "hydra.launcher.dry_run=true"]
        if filled:
            python(["-m", __name__, *arguments])
        told = python([RUN, *arguments])
        cells = re.search(r"^(\d+) cells", told.stdout, re.MULTILINE)

        def check() -> str:
            good = cells is not None and told.returncode == (NOTHING_TO_DO if filled else MISSING)
            says = f"{cells[1] if cells else 'no'} cells, exit code {told.returncode}"
            return require(good, says if good else f"{says} {told.stderr[-300:]}")

        def run() -> None:
            python([RUN, *arguments])

        return Sides(check, {"ours": run}, {"ours": int(cells[1]) / 1000 if cells else 1.0})

    return prepare


def again(*words: str, code: int = 0) -> Callable[[Subject], Sides]:
    """A command that has run before, so that there is nothing to do."""

    def prepare(subject: Subject) -> Sides:
        alone = words[0] in ("-c", "--help")
        arguments = [*((RUN,) if words[0] != "-c" else ()), *words, *(() if alone else (*SMALL, f"outputs={folder()}"))]
        python(arguments)

        def check() -> str:
            told = python(arguments, PYTHONPROFILEIMPORTTIME="1")
            names = {
                line.split("|")[-1].strip() for line in told.stderr.splitlines() if line.startswith("import time:")
            }
            unused = ", ".join(name for name in UNUSED if name in names) or "none"
            return require(told.returncode == code, f"exit code {told.returncode}, unused imports: {unused}")

        def run() -> None:
            python(arguments)

        return Sides(check, {"ours": run})

    return prepare


def fill(arguments: list[str]) -> None:
    """Plan, and write the result of every run that is missing, inputs first."""
    from runner.runs.fingerprint import code_of, fingerprint
    from runner.store.folder import Folder
    from runner.sweeps import summary

    def finish(plan: Any, processes: int, gpus: int = 0) -> int:
        for task in plan.tasks.values():
            run, code = task.run, fingerprint(task.run, code_of(task.run))
            Folder(run.folder).record("ok", {"job": run.job.name, **run.columns, "seconds": 1.0, "fingerprint": code})
        return 0

    summary.print_plan = finish
    sys.argv = [RUN, *arguments]
    runpy.run_path(RUN, run_name="__main__")


def _row(name: str, what: str, target: float | None, prepare: Callable[[Subject], Sides]) -> Case:
    return Case(name, what, "none", target, prepare, SECONDS, where=("one",))


_DRY = ("-m", "job=attack", "seed=0,1", "attack=topk,mass_center", "hydra.launcher.dry_run=true")

CASES = (
    _row("planning_empty", "planning 1,000 cells, nothing finished", 4.0, planning(False)),
    _row("planning_finished", "planning 1,000 cells, all finished", 4.0, planning(True)),
    _row("import_torch", "python -c 'import torch'", None, again("-c", "import torch")),
    _row("help", "run.py --help", None, again("--help")),
    _row("finished_training", "a finished training called again", 1.3, again("job=train")),
    _row("finished_attack", "a finished attack called again", 1.3, again("job=attack")),
    _row("finished_evaluation", "a finished evaluation called again", 1.3, again("job=evaluate", "seeds=[0]")),
    _row("dry_run", "dry run of 4 cells", None, again(*_DRY, code=MISSING)),
)

if __name__ == "__main__":
    fill(sys.argv[1:])
