"""What a queued task does: execute the runs it was submitted with, or nothing if their code has changed."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.core import signals
from runner.core.errors import reason
from runner.runs.fingerprint import code_of, difference
from runner.runs.run import Run
from runner.runs.run_job import run_job
from runner.store.files import write_json
from runner.store.folder import Folder
from runner.sweeps.slurm import code_snapshot, commands

log = logging.getLogger(__name__)


class RunsFailedError(RuntimeError):
    """Some runs of a task failed; the others are done."""


@dataclass(frozen=True)
class PlannedRun:
    """A run as planned: its folder, the folders of its inputs, and the code that its numbers come from."""

    run: Run
    folder: str
    needs: tuple[str, ...]
    code: Mapping[str, str]
    """Hashes of modules. A user's own modules are not in the code snapshot and may change while the task is queued."""

    def done(self) -> str | None:
        """Execute the run. Returns None, or the reason of its failure in one line (the traceback is in its folder)."""
        try:
            if self.run.folder != Path(self.folder):
                return f"its identity has changed since it was planned: now {self.run.folder.name}"
            if changes := difference(self.code, code_of(self.run)):
                return f"its code has changed since it was planned; {changes}"
            failed = [Path(needed).name for needed in self.needs if Folder(Path(needed)).finished() is None]
            if failed and self.run.job.needs_all_inputs:
                return f"its input failed: {failed[0]}"
            run_job(self.run)
        except Exception as error:
            log.exception("%s failed", self.folder)
            return reason(error)
        return None


@dataclass(frozen=True)
class Pack:
    """Runs that one task of an array executes one after the other; a failure does not stop the next run."""

    runs: tuple[PlannedRun, ...]
    code: str
    """Digest of the code that the runs were planned with."""
    outcome: str
    """JSON file for the reasons of failed runs, by folder; written after the last run."""

    def __call__(self) -> None:
        """Execute the runs. On a stop signal, ask SLURM to requeue the task. Errors: `RunsFailedError`."""
        _set_up_logging()
        try:
            with signals.listening():
                reasons = self._refused() or self._tried()
        except signals.StopRequested as stop:
            unfinished = [run.folder for run in self.runs if Folder(Path(run.folder)).finished() is None]
            reasons = dict.fromkeys(unfinished, _requeue(stop))
        write_json(Path(self.outcome), reasons)
        if reasons:
            folder, reason = next(iter(reasons.items()))
            raise RunsFailedError(f"{len(reasons)} of {len(self.runs)} runs failed; {folder}: {reason}")

    def checkpoint(self) -> Any:
        """What submitit runs when the task is requeued: the same pack, which resumes from the store."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _refused(self) -> dict[str, str]:
        if (running := code_snapshot.digest()) == self.code:
            return {}
        reason = f"the code has changed since it was submitted: {code_snapshot.ROOT} has digest {running}, planned was {self.code}"
        return {run.folder: reason for run in self.runs}

    def _tried(self) -> dict[str, str]:
        reasons = dict[str, str]()
        for run in self.runs:
            signals.check()
            if (reason := run.done()) is not None:
                log.error("%s: %s", run.folder, reason)
                reasons[run.folder] = reason
        return reasons


def _requeue(stop: signals.StopRequested) -> str:
    """End this process and requeue its task, unless SLURM itself is ending or requeueing it (scancel, preemption).

    Returns the reason if submitit refuses to requeue it, after too many time limits.
    """
    from submitit import JobEnvironment
    from submitit.core.utils import UncompletedJobError

    job = JobEnvironment().job_id
    state = commands.state(job)
    log.info("%s, the state is saved; SLURM job %s is %s", stop, job, state or "in an unknown state")
    if state == "RUNNING":
        try:
            signal.raise_signal(signal.SIGUSR2)  # submitit's own handler: keeps `checkpoint`, requeues and exits
        except UncompletedJobError as error:
            return str(error)
        except subprocess.CalledProcessError as error:
            log.warning("requeueing %s: %s", job, error)
    sys.exit(128 + stop.number)


def _set_up_logging() -> None:
    """Send the log lines of jobs to the task's log, where submitit writes its own lines already."""
    logging.getLogger("submitit").propagate = False
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
