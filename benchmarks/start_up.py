"""CPU seconds from the command line to the exit where there is nothing to do: a finished run, a dry run, `--help`.

Each command runs once to fill the store and the file cache, then REPEATS times in a fresh process; told are the median and the
range, and `import torch` alone beside them. What is imported without being used is named.

python benchmarks/start_up.py [REPEATS]
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

RUN = Path(__file__).resolve().parents[1] / "run.py"
SMALL = (
    *("dataset=digits", "model=mlp", "tracking=none", "dataset.train_size=100", "dataset.test_size=50"),
    *("training.epochs=1", "examples=2", "attack.steps=1", "epsilon.stop=0.2", "epsilon.step=0.2", "seeds=[0]"),
)
UNUSED = ("torch", "torch._dynamo", "sympy", "matplotlib", "scipy.stats", "pandas", "wandb", "sklearn", "torchvision")


def main() -> int:
    """Write a line for each command."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as outputs:
        small = [*SMALL, f"outputs={outputs}"]
        commands = {
            "import torch": ["-c", "import torch"],
            "--help": [str(RUN), "--help"],
            "finished training": [str(RUN), "job=train", *small],
            "finished attack": [str(RUN), "job=attack", *small],
            "finished evaluation": [str(RUN), "job=evaluate", *small],
            "dry run of 4 cells": [
                *(str(RUN), "-m", "job=attack", "seed=0,1", "attack=topk,mass_center", *small),
                "hydra.launcher.dry_run=true",
            ],
        }
        for title, arguments in commands.items():
            cpu(arguments)
            seconds = [cpu(arguments) for _ in range(repeats)]
            spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
            unused = ", ".join(imported(arguments)) or "none"
            sys.stdout.write(
                f"{title}: {statistics.median(seconds):.2f} s of CPU ({spread}); unused imports: {unused}\n"
            )
    return 0


def cpu(arguments: Sequence[str]) -> float:
    """Seconds of CPU that a Python takes with these arguments."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, check=False, cwd=RUN.parent)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def imported(arguments: Sequence[str]) -> list[str]:
    """Which of `UNUSED` it imports."""
    told = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=RUN.parent,
        env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"},
    )
    names = {line.split("|")[-1].strip() for line in told.stderr.splitlines() if line.startswith("import time:")}
    return [name for name in UNUSED if name in names]


if __name__ == "__main__":
    sys.exit(main())
