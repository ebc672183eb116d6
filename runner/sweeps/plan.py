"""The cells of a sweep, and which of their runs and inputs are missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner.core.command_line import command
from runner.runs.run import IMAGES, Run, identity_of
from runner.runs.staleness import Staleness
from runner.store import locks, replacement
from runner.store.files import write_json
from runner.store.folder import Folder
from runner.store.version import VERSION, VERSION_KEY


@dataclass(frozen=True)
class Cell:
    """A point of a sweep: its overrides, and their run or the condition that skips it."""

    overrides: Sequence[str] = ()
    run: Run | None = None
    skipped: str | None = None
    job: str = ""
    """The kind of job; needed for a skipped cell, which has no run."""


@dataclass
class Task:
    """A run to execute, and the folders that must be finished first."""

    run: Run
    needs: list[Path]
    tries: int = 0
    rerun: bool = False
    """Whether it is finished already and is rerun."""


@dataclass
class Plan:
    """The cells of a sweep, in order, and the runs to execute, inputs before the runs that need them."""

    cells: list[Cell]
    tasks: dict[Path, Task] = field(default_factory=dict)
    zipped: Mapping[str, str] = field(default_factory=dict)
    """The axis of each zipped key."""
    failed: dict[Path, str] = field(default_factory=dict)
    """Runs whose last attempt, or that of an input, failed, with the reason; `rerun` decides whether they are tasks."""
    stale: dict[Path, str] = field(default_factory=dict)
    """Finished runs whose code has changed, with the reason; `rerun` decides whether they are tasks."""
    unknown: set[Path] = field(default_factory=set)
    """Finished runs without a fingerprint."""

    @classmethod
    def of(cls, cells: Iterable[Cell], zipped: Mapping[str, str] | None = None) -> Plan:
        """The plan of these cells, from the state of the store."""
        plan, staleness = cls(list(cells), zipped=zipped or {}), Staleness()
        plan.unknown = staleness.unknown
        for run in plan.runs:
            plan._add(run, staleness)
        return plan

    @classmethod
    def of_run(cls, run: Run) -> Plan:
        """The plan of one run and its inputs."""
        return cls.of([Cell(run=run)])

    @property
    def runs(self) -> list[Run]:
        """The runs of the cells, without skipped cells and reports (which have no id)."""
        return [cell.run for cell in self.cells if cell.run is not None and cell.run.identity]

    @property
    def skipped(self) -> list[str]:
        """The condition of each skipped cell."""
        return [cell.skipped for cell in self.cells if cell.skipped is not None]

    def _add(self, run: Run, staleness: Staleness) -> None:
        """Add a run and its inputs to the tasks, if they must be executed."""
        if (known := self.tasks.get(run.folder)) is not None:
            if run.keeps_images:  # two cells with one attack, of which only one wants images: attack once and keep them
                known.run = known.run.keeping_images()
            return
        result = run.result()
        if result is not None and not self._needs_rerun(run, staleness):
            return
        for needed in run.inputs:
            self._add(needed, staleness)
        failure = replacement.failure(run.folder) or self._blocked(run)
        if failure is not None:
            self.failed[run.folder] = failure
            if result is None and run.config["rerun"] not in ("failed", "all") and not _listed(run):
                return
        planned = run.replacing(_stamps([run.folder]))
        if (run.folder / IMAGES).is_file():
            planned = planned.keeping_images()
        needs = [needed.folder for needed in run.inputs if needed.folder in self.tasks]
        self.tasks[run.folder] = Task(planned, needs, rerun=result is not None)

    def _needs_rerun(self, run: Run, staleness: Staleness) -> bool:
        """Whether a finished run is rerun. It counts as failed if its last rerun failed, even though it has an old result."""
        stale, failure = staleness.reason(run), replacement.failure(run.folder)
        if stale is not None:
            self.stale[run.folder] = stale
        if failure is not None:
            self.failed[run.folder] = failure
        asked = {"all": True, "stale": stale is not None, "failed": failure is not None}
        return _listed(run) or asked.get(str(run.config["rerun"]), False)

    def _blocked(self, run: Run) -> str | None:
        """Why a failed input that is not rerun blocks this run; None if it does not (an evaluation tolerates failed inputs)."""
        needed = [other.folder for other in run.inputs]
        failed = [
            path for path in needed if path in self.failed and path not in self.tasks and not Folder(path).finished()
        ]
        if not failed or (not run.job.needs_all_inputs and Folder(run.folder).finished() is None):
            return None
        return f"its input failed: {failed[0].name}"

    def record(self) -> None:
        """Write the cells to `outputs/sweeps/NAME/cells.json`, for the report."""
        cells = [
            {
                "job": cell.run.job.name,
                "folder": str(cell.run.folder.relative_to(cell.run.outputs)),
                "overrides": list(cell.overrides),
            }
            for cell in self.cells
            if cell.run is not None and cell.run.identity
        ]
        first = next(cell.run for cell in self.cells if cell.run is not None)
        file = first.outputs / "sweeps" / first.sweep / "cells.json"
        write_json(file, {VERSION_KEY: VERSION, "command": command(), "cells": cells})

    def states(self) -> list[str]:
        """The state of each cell: done, missing, failed, stale, running (in any process), or skipped."""
        return [
            "skipped" if cell.run is None else self._state(cell.run.folder) if cell.run.identity else "missing"
            for cell in self.cells
        ]

    def _state(self, folder: Path) -> str:
        if folder in self.tasks and not self.tasks[folder].rerun and folder not in self.failed:
            state = "missing"
        else:
            state = "failed" if folder in self.failed else "stale" if folder in self.stale else "done"
        return "running" if state != "done" and locks.held(folder) else state

    def replaced(self) -> dict[str, str]:
        """The stamps of the results that a single job reruns, by identity: those of the tasks and of failed runs."""
        return _stamps([*self.tasks, *self.failed])

    def left_alone(self) -> dict[Path, str]:
        """The failed runs that are not rerun, with the reasons."""
        return {folder: reason for folder, reason in self.failed.items() if folder not in self.tasks}


def _listed(run: Run) -> bool:
    listed = run.config["rerun"]
    return isinstance(listed, list) and run.identity in listed


def _stamps(folders: Iterable[Path]) -> dict[str, str]:
    """The stamps of the results in these folders, by identity; runs that never ended have none."""
    stamps = {identity_of(folder): replacement.stamp(folder) for folder in folders}
    return {identity: stamp for identity, stamp in stamps.items() if stamp is not None}
