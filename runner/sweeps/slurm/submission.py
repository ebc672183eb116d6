"""What a sweep has submitted to SLURM: recorded on disk, found by later calls, waited for, and its failures collected."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from runner.core.command_line import command
from runner.core.progress import progress
from runner.runs.fingerprint import code_of
from runner.store.files import write_json
from runner.store.folder import Folder
from runner.sweeps.order import levels, packs
from runner.sweeps.plan import Plan, Task
from runner.sweeps.slurm import commands
from runner.sweeps.slurm.task import Pack, PlannedRun

FILE = "submission.json"
POLL = 5.0
"""Seconds between two checks of the queue and the store."""

log = logging.getLogger(__name__)

Send = Callable[[Sequence[Pack], Sequence[str], Path], list[str]]
"""(packs, jobs to wait for, code) -> the SLURM jobs of the packs, submitted as one array."""


@dataclass(frozen=True)
class SubmittedTask:
    """A submitted task: its SLURM job, the folders of its runs, and the file for the reasons of their failures."""

    job: str
    folders: tuple[Path, ...]
    outcome: Path

    def reasons(self) -> dict[str, str]:
        """The reasons of this task's failed runs, by folder; empty while it runs."""
        if not self.outcome.is_file():
            return {}
        found: dict[str, str] = json.loads(self.outcome.read_text(encoding="utf-8"))
        return found


def submit(plan: Plan, folder: Path, pack: int, code: Path, send: Send) -> list[SubmittedTask]:
    """Submit the missing runs that are not queued yet. Returns all queued tasks, including those of earlier calls.

    `folder` is the sweep's own. Errors: `ConfigError` when an array would be larger than the cluster allows.
    """
    with _submission_lock(folder):
        before = queued(folder)
        held = {path: sent.job for sent in before for path in sent.folders}
        arrays = [packs(level, pack) for level in levels(plan, held)]
        commands.require_arrays(max(map(len, arrays), default=0), pack)
        record = _Record(_new_folder(folder), code) if arrays else None
        sent, earlier = list[SubmittedTask](), list[str]()
        for array in arrays:
            assert record is not None
            inputs = {held[path] for tasks in array for task in tasks for path in task.needs if path in held}
            after = sorted({job.split("_")[0] for job in (*earlier, *inputs)}, key=int)
            begun = record.send(array, after, send)
            sent, earlier = [*sent, *begun], [one.job for one in begun]
    return [*before, *sent]


def log_queued(folder: Path) -> None:
    """Log how many runs of this sweep are queued in SLURM, if it answers."""
    known = _known(folder)
    running = commands.alive(sent.job for sent in known) or {}
    if count := sum(len(sent.folders) for sent in known if sent.job in running):
        states = ", ".join(f"{number} {state}" for state, number in Counter(running.values()).items())
        log.info("%d runs of this sweep are queued in SLURM; tasks: %s", count, states)


def queued(folder: Path) -> list[SubmittedTask]:
    """Tasks of earlier calls that have not ended; all of them if SLURM does not answer."""
    known = _known(folder)
    running = commands.alive(sent.job for sent in known)
    return known if running is None else [sent for sent in known if sent.job in running]


def wait(plan: Plan, sent: Sequence[SubmittedTask], poll: float = POLL) -> None:
    """Wait until all these tasks have ended, showing how many of the sweep's runs are finished."""
    left, total = dict(plan.tasks), len(plan.tasks)
    waiting = {one.job for one in sent}
    with progress("sweep", total) as advance:
        while waiting:
            running = commands.alive(waiting)
            for path in [path for path, task in left.items() if task.run.result()]:
                del left[path]
                advance(f"done {path.name}")
            if running is not None:
                waiting &= running.keys()
            if waiting:
                time.sleep(poll)


def failures(plan: Plan, sent: Sequence[SubmittedTask]) -> dict[Path, str]:
    """Why runs of the plan are not finished, in one line each, by folder."""
    reasons = {Path(folder): reason for one in sent for folder, reason in one.reasons().items()}
    jobs = {path: one for one in sent for path in one.folders}
    failed = {
        path: task
        for path, task in plan.tasks.items()
        if path in reasons or not task.run.result()  # a run whose rerun failed keeps its old result
    }
    ended = commands.last_states(jobs[path].job for path in failed if path in jobs and path not in reasons)
    found = dict[Path, str]()
    for path, task in failed.items():
        failed_input = next((needed.name for needed in task.needs if needed in found), None)
        recorded = (Folder(path).result() or {}).get("error")
        job = jobs[path].job if path in jobs else None
        found[path] = (
            reasons.get(path)
            or (f"its input failed: {failed_input}" if failed_input else None)
            or (f"its SLURM job {job} ended as {ended[job]}" if job in ended else None)
            or str(recorded or f"its SLURM job {job} ended without a message")
        )
    return found


@dataclass
class _Record:
    """The folder of one submission; its file lists what has been submitted so far."""

    folder: Path
    code: Path

    def __post_init__(self) -> None:
        self.arrays: list[dict[str, Any]] = []

    def send(self, level: Sequence[Sequence[Task]], after: Sequence[str], send: Send) -> list[SubmittedTask]:
        """Submit packs as an array and record it."""
        first = sum(len(array["tasks"]) for array in self.arrays)
        outcomes = [self.folder / "outcomes" / f"{first + number:05d}.json" for number in range(len(level))]
        planned = [_planned(tasks, self.code.name, outcome) for tasks, outcome in zip(level, outcomes, strict=True)]
        jobs = send(planned, after, self.code)
        sent = [
            SubmittedTask(job, tuple(Path(run.folder) for run in pack.runs), outcome)
            for job, pack, outcome in zip(jobs, planned, outcomes, strict=True)
        ]
        self._write(sent, after)
        kinds = sorted({task.run.job.name for tasks in level for task in tasks})
        runs = sum(map(len, level))
        log.info("SLURM job %s: %d runs (%s) in %d tasks%s", jobs[0].split("_")[0], runs, ", ".join(kinds), len(level),
                 f", after {', '.join(after)}" if after else "")  # fmt: skip
        return sent

    def _write(self, sent: Sequence[SubmittedTask], after: Sequence[str]) -> None:
        tasks = [
            {"job": one.job, "outcome": one.outcome.name, "folders": [str(path) for path in one.folders]}
            for one in sent
        ]
        self.arrays.append({"job": sent[0].job.split("_")[0], "after": list(after), "tasks": tasks})
        now = datetime.now(UTC).isoformat(timespec="seconds")
        content = {"command": command(), "submitted": now, "code": str(self.code), "arrays": self.arrays}
        write_json(self.folder / FILE, content)


def _known(folder: Path) -> list[SubmittedTask]:
    return [sent for file in sorted(folder.glob(f"submissions/*/{FILE}")) for sent in _read(file)]


def _planned(tasks: Sequence[Task], code: str, outcome: Path) -> Pack:
    runs = [
        PlannedRun(
            run=task.run,
            folder=str(task.run.folder),
            needs=tuple(str(needed) for needed in task.needs),
            code=code_of(task.run),
        )
        for task in tasks
    ]
    return Pack(tuple(runs), code, str(outcome))


def _read(file: Path) -> Iterator[SubmittedTask]:
    content: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    for array in content["arrays"]:
        for task in array["tasks"]:
            folders = tuple(Path(folder) for folder in task["folders"])
            yield SubmittedTask(task["job"], folders, file.parent / "outcomes" / task["outcome"])


@contextmanager
def _submission_lock(folder: Path) -> Iterator[None]:
    """Calls of one sweep submit one after the other, so that the second sees what the first has submitted."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".submitting.lock"):
        yield


def _new_folder(folder: Path) -> Path:
    taken = [int(path.name) for path in folder.glob("submissions/[0-9]*")]
    made = folder / "submissions" / f"{max(taken, default=0) + 1:04d}"
    made.mkdir(parents=True)
    return made
