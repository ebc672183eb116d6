"""What a queued task does: the cells it was submitted with, by the code it was submitted with, or nothing."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.core import stopping, store
from runner.core.errors import reason
from runner.core.identity import Config
from runner.core.store import Folder

log = logging.getLogger(__name__)


class CellsFailedError(RuntimeError):
    """Some cells of a task failed; the others are done."""


@dataclass(frozen=True)
class FrozenCell:
    """One cell as it was planned: its resolved config, its folder and the folders of its inputs, and the code it depends on."""

    config: Config
    folder: str
    needs: tuple[str, ...]
    code: Mapping[str, str]
    """Hashes of modules: those of a user's own lie outside the copy that a task runs, and may change while it waits."""

    def run(self) -> str | None:
        """Do the cell. Returns None, or in one line why it failed (the traceback is in its folder)."""
        from runner.jobs import run_job
        from runner.jobs.cells import cell_of
        from runner.jobs.fingerprint import code_of, difference

        try:
            cell = cell_of(self.config)
            if cell is None or cell.folder != Path(self.folder):
                return f"its identity is no longer the planned one: now {cell.folder.name if cell else 'none'}"
            if drifted := difference(self.code, code_of(cell.job, self.config)):
                return f"its code is not the one it was planned with; {drifted}"
            lost = [Path(needed).name for needed in self.needs if Folder(Path(needed)).finished() is None]
            if lost and cell.job != "evaluate":
                return f"its input failed: {lost[0]}"
            run_job(self.config)
        except Exception as error:
            log.exception("%s failed", self.folder)
            return reason(error)
        return None


@dataclass(frozen=True)
class Pack:
    """Cells that one task of an array does one after the other; the failure of one does not stop the next."""

    cells: tuple[FrozenCell, ...]
    code: str
    """Digest of the code that the cells were planned with."""
    outcome: str
    """JSON file that takes why cells failed, by their folders, once all have been tried."""

    def __call__(self) -> None:
        """Do the cells. Told to stop, ask SLURM to run the task again. Errors: `CellsFailedError`."""
        _say_lines()
        try:
            with stopping.listening():
                reasons = self._refused() or self._tried()
        except stopping.StopRequested as stop:
            unfinished = [cell.folder for cell in self.cells if Folder(Path(cell.folder)).finished() is None]
            reasons = dict.fromkeys(unfinished, _hand_back(stop))
        store.write_json(Path(self.outcome), reasons)
        if reasons:
            folder, reason = next(iter(reasons.items()))
            raise CellsFailedError(f"{len(reasons)} of {len(self.cells)} cells failed; {folder}: {reason}")

    def checkpoint(self) -> Any:
        """What submitit runs when the task starts again: the same, which goes on from what is stored."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _refused(self) -> dict[str, str]:
        from runner.jobs import snapshot

        if (running := snapshot.digest()) == self.code:
            return {}
        reason = f"the code is not the one it was submitted with: {snapshot.ROOT} is {running}, planned was {self.code}"
        return {cell.folder: reason for cell in self.cells}

    def _tried(self) -> dict[str, str]:
        reasons = dict[str, str]()
        for cell in self.cells:
            stopping.check()
            if (reason := cell.run()) is not None:
                log.error("%s: %s", cell.folder, reason)
                reasons[cell.folder] = reason
        return reasons


def _hand_back(stop: stopping.StopRequested) -> str:
    """End this process, and have its task run again unless SLURM has ended it or decided on that itself (scancel, requeue).

    Returns why the task will not run again, where submitit refuses that: after too many time limits.
    """
    from submitit import JobEnvironment
    from submitit.core.utils import UncompletedJobError

    from runner.jobs import slurm

    job = JobEnvironment().job_id
    state = slurm.state(job)
    log.info("%s, the state is saved; %s is %s", stop, job, state or "not known")
    if state == "RUNNING":
        try:
            signal.raise_signal(signal.SIGUSR2)  # submitit's own handler: keeps `checkpoint`, requeues and exits
        except UncompletedJobError as error:
            return str(error)
        except subprocess.CalledProcessError as error:
            log.warning("requeueing %s: %s", job, error)
    sys.exit(128 + stop.number)


def _say_lines() -> None:
    """What jobs log goes to the task's log; submitit writes its own lines there already."""
    logging.getLogger("submitit").propagate = False
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
