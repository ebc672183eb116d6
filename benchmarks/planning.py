"""How long a sweep takes to plan, from the command line to the exit, imports included; nothing runs.

Twice, each in a fresh process: with an empty store, and with one in which every run is finished, so that the code of each is
compared with what its result says. The 1,104 cells of all_defenses: 9.1 s of CPU and 9.8 s (8.9 s before there was anything to
compare), about as long as they take on an idle core.

python benchmarks/planning.py [SWEEP] [OVERRIDE...]
"""

import os
import re
import resource
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RUN = Path(__file__).resolve().parents[1] / "run.py"
FILL = "--fill"


def main() -> int:
    """Plan with an empty store and with a full one, and say what each took."""
    sweep, overrides = (sys.argv[1:2] or ["all_defenses"])[0], sys.argv[2:]
    with tempfile.TemporaryDirectory() as outputs:
        arguments = ["-m", f"+sweeps={sweep}", f"outputs={outputs}", "hydra.launcher.dry_run=true", *overrides]
        empty = measure(f"{sweep}, nothing finished", [str(RUN), *arguments], code=3)
        subprocess.run([sys.executable, __file__, FILL, *arguments], capture_output=True, check=False)
        return empty or measure(f"{sweep}, all finished", [str(RUN), *arguments], code=0)


def measure(title: str, arguments: list[str], code: int) -> int:
    """Plan once and write a line about it. Returns 1 when the plan does not end with `code`."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    wall, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cells = re.search(r"^(\d+) cells", ended.stdout, re.MULTILINE)
    if ended.returncode != code or cells is None:
        sys.stderr.write(ended.stdout + ended.stderr)
        return 1
    share = f"{1000 * wall / int(cells[1]):.1f} ms a cell"
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    sys.stdout.write(
        f"{title}: {cells[1]} cells in {wall:.1f} s ({share}), {cpu:.1f} s of CPU, load {os.getloadavg()[0]:.1f}\n"
    )
    return 0


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
    sys.argv = [str(RUN), *arguments]
    runpy.run_path(str(RUN), run_name="__main__")


if __name__ == "__main__":
    sys.exit(fill(sys.argv[2:]) if sys.argv[1:2] == [FILL] else main())
