"""What SLURM knows about jobs, from its own commands."""

from __future__ import annotations

import logging
import math
import re
import shutil
import subprocess
from collections.abc import Iterable

from runner.core.errors import ConfigError, require

_SECONDS = 60.0
ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"}
)
"""States of a job that will not run again."""

log = logging.getLogger(__name__)


def require_commands() -> None:
    """Errors: `ConfigError` when SLURM's commands are not installed."""
    missing = [name for name in ("sbatch", "squeue", "srun", "scontrol") if shutil.which(name) is None]
    if missing:
        raise ConfigError(
            f"hydra/launcher=slurm: {missing[0]} is not installed here; run this on a node of the cluster"
        )


def alive(jobs: Iterable[str]) -> dict[str, str] | None:
    """Job -> state, for those of these jobs (`12_3`, `14`, or `12` for a whole array) that have not ended.

    None if the controller does not answer.
    """
    ids = sorted({job.split("_")[0] for job in jobs})
    if not ids:
        return {}
    done = _queue(",".join(ids))
    if done.returncode and "Invalid job id" not in done.stderr:
        log.warning("squeue: %s", done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode)
        return None
    states = _pairs(done.stdout)
    return {job: state for job, state in states.items() if state not in ENDED}


def state(job: str) -> str | None:
    """The state of one job (`12_3` or `14`); None if unknown."""
    return _pairs(_queue(job).stdout).get(job)


def last_states(jobs: Iterable[str]) -> dict[str, str]:
    """The current or final states of these jobs according to accounting; empty without accounting."""
    ids = sorted({job.split("_")[0] for job in jobs})
    if not ids or shutil.which("sacct") is None:
        return {}
    done = _call(
        "sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={','.join(ids)}", "--format=JobID,State"
    )
    return {job: state.split()[0] for job, state in _pairs(done.stdout).items() if state}


def require_arrays(tasks: int, pack: int) -> None:
    """Errors: `ConfigError` when the cluster does not allow arrays of so many tasks."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _call("scontrol", "show", "config").stdout, flags=re.MULTILINE)
    largest = int(found[1]) - 1 if found else tasks
    fits = pack * math.ceil(tasks / max(largest, 1))
    require(
        tasks <= largest,
        "hydra.launcher.pack",
        pack,
        f"at least {fits}: this cluster's arrays have at most {largest} tasks",
    )


def _queue(jobs: str) -> subprocess.CompletedProcess[str]:
    return _call("squeue", "--noheader", "--array", "--states=all", f"--jobs={jobs}", "--format=%i|%T")


def _call(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", "not installed here")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer in {_SECONDS:.0f} s")


def _pairs(text: str) -> dict[str, str]:
    lines = (line.strip().split("|") for line in text.splitlines() if "|" in line)
    return {job: state for job, state, *_ in lines}
