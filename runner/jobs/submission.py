"""What a sweep has given to SLURM: written down, found again by a later call, waited for, and what became of it."""

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

from runner.core import store
from runner.core.progress import progress
from runner.core.store import Folder
from runner.jobs import slurm
from runner.jobs.cells import finished
from runner.jobs.fingerprint import code_of
from runner.jobs.frozen import FrozenCell, Pack
from runner.jobs.plan import Plan, Task
from runner.jobs.report import command
from runner.jobs.waves import packs, waves

FILE = "submission.json"
POLL = 5.0
"""Seconds between two looks at the queue and the store."""

log = logging.getLogger(__name__)

Send = Callable[[Sequence[Pack], Sequence[str], Path], list[str]]
"""(packs, jobs to wait for, code) -> the SLURM jobs of the packs, sent as one array."""


@dataclass(frozen=True)
class Sent:
    """One task in SLURM's hands: its job, the folders of its cells, and the file that takes why they failed."""

    job: str
    folders: tuple[Path, ...]
    outcome: Path

    def reasons(self) -> dict[str, str]:
        """Why cells of this task failed, by folder; empty while it runs."""
        if not self.outcome.is_file():
            return {}
        found: dict[str, str] = json.loads(self.outcome.read_text(encoding="utf-8"))
        return found


def submit(plan: Plan, folder: Path, pack: int, code: Path, send: Send) -> list[Sent]:
    """Give SLURM what is missing and not in its hands yet. Returns all tasks in its hands, those of earlier calls included.

    `folder` is the sweep's own. Errors: `ConfigError` when an array would be larger than the cluster takes.
    """
    with _alone(folder):
        before = queued(folder)
        held = {path: sent.job for sent in before for path in sent.folders}
        levels = [packs(wave, pack) for wave in waves(plan, held)]
        slurm.require_arrays(max(map(len, levels), default=0), pack)
        record = _Record(_new_folder(folder), code) if levels else None
        sent, earlier = list[Sent](), list[str]()
        for level in levels:
            assert record is not None
            inputs = {held[path] for tasks in level for task in tasks for path in task.needs if path in held}
            after = sorted({job.split("_")[0] for job in (*earlier, *inputs)}, key=int)
            begun = record.send(level, after, send)
            sent, earlier = [*sent, *begun], [one.job for one in begun]
    return [*before, *sent]


def tell_queued(folder: Path) -> None:
    """Log how many runs of this sweep SLURM holds, if it answers."""
    known = _known(folder)
    running = slurm.alive(sent.job for sent in known) or {}
    if count := sum(len(sent.folders) for sent in known if sent.job in running):
        states = ", ".join(f"{number} {state}" for state, number in Counter(running.values()).items())
        log.info("%d runs of this sweep are queued in SLURM; tasks: %s", count, states)


def queued(folder: Path) -> list[Sent]:
    """Tasks of earlier calls that SLURM still holds; all of them where it does not answer."""
    known = _known(folder)
    running = slurm.alive(sent.job for sent in known)
    return known if running is None else [sent for sent in known if sent.job in running]


def wait(plan: Plan, sent: Sequence[Sent], poll: float = POLL) -> None:
    """Wait until SLURM has done with all of these, showing how many of the sweep's runs are finished."""
    left, total = dict(plan.tasks), len(plan.tasks)
    waiting = {one.job for one in sent}
    with progress("sweep", total) as advance:
        while waiting:
            running = slurm.alive(waiting)
            for path in [path for path, task in left.items() if finished(task.cell, task.config)]:
                del left[path]
                advance(f"done {path.name}")
            if running is not None:
                waiting &= running.keys()
            if waiting:
                time.sleep(poll)


def failures(plan: Plan, sent: Sequence[Sent]) -> dict[Path, str]:
    """Why runs of the plan are not finished now, in one line each."""
    told = {Path(folder): reason for one in sent for folder, reason in one.reasons().items()}
    jobs = {path: one for one in sent for path in one.folders}
    lost = {
        path: task
        for path, task in plan.tasks.items()
        if path in told or not finished(task.cell, task.config)  # an old result stays where making it again failed
    }
    ended = slurm.last_states(jobs[path].job for path in lost if path in jobs and path not in told)
    found = dict[Path, str]()
    for path, task in lost.items():
        input_lost = next((needed.name for needed in task.needs if needed in found), None)
        recorded = (Folder(path).result() or {}).get("error")
        job = jobs[path].job if path in jobs else None
        found[path] = (
            told.get(path)
            or (f"its input failed: {input_lost}" if input_lost else None)
            or (f"its SLURM job {job} ended as {ended[job]}" if job in ended else None)
            or str(recorded or f"its SLURM job {job} ended without a word")
        )
    return found


@dataclass
class _Record:
    """The folder of one submission, whose file tells what was sent so far."""

    folder: Path
    code: Path

    def __post_init__(self) -> None:
        self.arrays: list[dict[str, Any]] = []

    def send(self, level: Sequence[Sequence[Task]], after: Sequence[str], send: Send) -> list[Sent]:
        """Send the packs of one wave as an array, and write that down."""
        first = sum(len(array["tasks"]) for array in self.arrays)
        outcomes = [self.folder / "outcomes" / f"{first + number:05d}.json" for number in range(len(level))]
        frozen = [_freeze(tasks, self.code.name, outcome) for tasks, outcome in zip(level, outcomes, strict=True)]
        jobs = send(frozen, after, self.code)
        sent = [
            Sent(job, tuple(Path(cell.folder) for cell in pack.cells), outcome)
            for job, pack, outcome in zip(jobs, frozen, outcomes, strict=True)
        ]
        self._note(sent, after)
        kinds = sorted({task.cell.job for tasks in level for task in tasks})
        cells = sum(map(len, level))
        log.info("SLURM job %s: %d runs (%s) in %d tasks%s", jobs[0].split("_")[0], cells, ", ".join(kinds), len(level),
                 f", after {', '.join(after)}" if after else "")  # fmt: skip
        return sent

    def _note(self, sent: Sequence[Sent], after: Sequence[str]) -> None:
        tasks = [
            {"job": one.job, "outcome": one.outcome.name, "folders": [str(path) for path in one.folders]}
            for one in sent
        ]
        self.arrays.append({"job": sent[0].job.split("_")[0], "after": list(after), "tasks": tasks})
        now = datetime.now(UTC).isoformat(timespec="seconds")
        content = {"command": command(), "submitted": now, "code": str(self.code), "arrays": self.arrays}
        store.write_json(self.folder / FILE, content)


def _known(folder: Path) -> list[Sent]:
    return [sent for file in sorted(folder.glob(f"submissions/*/{FILE}")) for sent in _read(file)]


def _freeze(tasks: Sequence[Task], code: str, outcome: Path) -> Pack:
    cells = [
        FrozenCell(
            config=task.config,
            folder=str(task.cell.folder),
            needs=tuple(str(needed) for needed in task.needs),
            code=code_of(task.cell.job, task.config),
        )
        for task in tasks
    ]
    return Pack(tuple(cells), code, str(outcome))


def _read(file: Path) -> Iterator[Sent]:
    content: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    for array in content["arrays"]:
        for task in array["tasks"]:
            folders = tuple(Path(folder) for folder in task["folders"])
            yield Sent(task["job"], folders, file.parent / "outcomes" / task["outcome"])


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two calls of one sweep submit one after the other, so that the second sees what the first has sent."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".submitting.lock"):
        yield


def _new_folder(folder: Path) -> Path:
    taken = [int(path.name) for path in folder.glob("submissions/[0-9]*")]
    made = folder / "submissions" / f"{max(taken, default=0) + 1:04d}"
    made.mkdir(parents=True)
    return made
