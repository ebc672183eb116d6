"""CPU seconds and peak memory of a report of 400 finished attacks, from the command line to the exit, and the size of its page.

The store is synthetic: 80 configurations (10 defenses, 4 attributions, 2 attacks) of 5 seeds, 50 examples at 11 budgets each, with
galleries of 28x28 images and training histories. `import torch` alone is beside it, as the measure of a slow or busy machine.

python benchmarks/report_of_many.py [SEEDS] [KEPT]   # KEPT: a folder for the store and the report, else they are removed
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "report"))

DEFENSES = {"none": 0.5, **{f"madry_l2-{tenths / 10:g}": 0.45 - 0.03 * tenths for tenths in range(1, 10)}}
ATTRIBUTIONS = {"saliency": 1.0, "integrated_gradients": 0.8, "smoothgrad": 0.6, "uniform_gradient": 0.7}
ATTACKS = {"topk": 1.0, "manipulate": 0.7}


def main() -> int:
    """Fill a store, report on it in a new process, and write what that took."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as removed:
        outputs = Path(sys.argv[2] if len(sys.argv) > 2 else removed)
        cells = fill(outputs, seeds)
        bare, _ = cpu(["-c", "import torch"])
        seconds, peak = cpu(
            [str(ROOT / "run.py"), "job=report", "report.runs=[*]", "report.name=many", f"outputs={outputs}"]
        )
        page = outputs / "reports" / "many" / "index.html"
        plots = sum(1 for _ in (page.parent / "plots").iterdir())
        sys.stdout.write(
            f"report of {cells} cells: {seconds:.1f} s of CPU ({seconds / bare:.1f} times `import torch`), {peak:.0f} MiB at most; "
            f"page {page.stat().st_size / 1e6:.1f} MB, {plots} files of plots\n"
        )
    return 0


def fill(outputs: Path, seeds: int) -> int:
    """Write the finished attacks; returns how many there are."""
    from synthetic_store import Store

    store = Store(outputs)
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
                        examples=50,
                        size=(1, 28, 28),
                    )
    return len(store.folders)


def cpu(arguments: list[str]) -> tuple[float, float]:
    """Seconds of CPU of a Python process and the processes that it starts, and the most memory that one of them held in MiB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, after.ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
