"""A sweep: which cells it states, which of them are missing, and how the missing ones are brought about on one machine."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from rich.console import Console
from rich.table import Table

from runner.core import store
from runner.core.identity import Config
from runner.core.progress import QUIET, Advance, progress
from runner.core.store import Folder
from runner.jobs import checks, run_job
from runner.jobs.cells import Cell, cell_of, finished
from runner.jobs.report import command, report_on, sweep_file

log = logging.getLogger(__name__)
MAX_TRIES = 2


class SweepFailedError(HydraException):
    """Some cells of a sweep failed."""


@dataclass
class Task:
    """A cell to be done, and the folders that must be finished before it."""

    config: Config
    cell: Cell
    needs: list[Path]
    tries: int = 0


@dataclass
class Plan:
    """The cells that a sweep states, in order, and the tasks that are missing, inputs before those that need them."""

    cells: list[tuple[Config, Sequence[str]]]
    tasks: dict[Path, Task] = field(default_factory=dict)

    @classmethod
    def of(cls, cells: Sequence[tuple[Config, Sequence[str]]]) -> Plan:
        """Check every cell and list what is missing. Errors: `ConfigError` before anything runs."""
        plan = cls(list(cells))
        for config, _ in cells:
            checks.check(config)
            plan._add(config)
        return plan

    def _add(self, config: Config) -> Path | None:
        cell = cell_of(config)
        if cell is None or cell.folder in self.tasks or finished(cell, config):
            return None if cell is None or cell.folder not in self.tasks else cell.folder
        needs = [path for needed in inputs(config) if (path := self._add(needed)) is not None]
        self.tasks[cell.folder] = Task(config, cell, needs)
        return cell.folder

    def missing(self) -> list[int]:
        """Positions of the stated cells that are not finished; a cell stated twice counts once."""
        folders = [self._folder(config) for config, _ in self.cells]
        return [place for place, folder in enumerate(folders) if folder in self.tasks and folder not in folders[:place]]

    def record(self) -> None:
        """Write what the sweep states to `outputs/sweeps/NAME/cells.json`, for the report."""
        config = self.cells[0][0]
        outputs = Path(config["outputs"])
        cells = [
            {"job": config["job"]["name"], "folder": str(folder.relative_to(outputs)), "overrides": list(overrides)}
            for config, overrides in self.cells
            if (folder := self._folder(config)) is not None
        ]
        file = sweep_file(outputs, str(config["sweep"] or "unnamed"))
        store.write_json(file, {"command": command(), "cells": cells})

    def states(self) -> Iterator[tuple[str, str, Sequence[str]]]:
        """(job, state, overrides that tell it from the others) of each stated cell: done, failed or missing."""
        common = (
            set.intersection(*(set(overrides) for _, overrides in self.cells)) if len(self.cells) > 1 else set[str]()
        )
        for config, overrides in self.cells:
            folder = self._folder(config)
            result = Folder(folder).result() if folder is not None else None
            state = {"ok": "done", "failed": "failed"}.get(str(result["status"]), "missing") if result else "missing"
            yield config["job"]["name"], state, [override for override in overrides if override not in common]

    @staticmethod
    def _folder(config: Config) -> Path | None:
        cell = cell_of(config)
        return cell.folder if cell else None


def inputs(config: Config) -> list[Config]:
    """The runs that a run needs: an attack its training, an evaluation the attacks of its seeds."""
    job = config["job"]["name"]
    if job == "evaluate":
        return [{**_as_job(config, "attack"), "seed": seed} for seed in config["seeds"]]
    return [_as_job(config, "train")] if job == "attack" else []


def _as_job(config: Config, job: str) -> Config:
    return {**config, "job": {"name": job, "_target_": f"runner.jobs.{job}.run"}}


def run_local(plan: Plan, processes: int) -> dict[Path, str]:
    """Do every missing task in worker processes, inputs first. Returns the reasons of failure by folder.

    Threads are shared out over the processes. A task whose worker dies is tried once more, alone, since the death of one
    worker takes those beside it along; one whose input failed is not tried at all.
    """
    waiting, failures = dict(plan.tasks), dict[Path, str]()
    if not waiting:
        return failures
    threads = max((os.cpu_count() or 1) // processes, 1)
    with progress("sweep", len(waiting)) as advance:
        while waiting:
            with _pool(min(processes, len(waiting)), threads) as pool:
                _drain(pool, processes, waiting, failures, advance)
    return failures


def _drain(
    pool: ProcessPoolExecutor, processes: int, waiting: dict[Path, Task], failures: dict[Path, str], advance: Advance
) -> None:
    """Feed ready tasks to the pool until all are done, or until a worker's death breaks the pool."""
    running: dict[Future[str | None], Path] = {}
    while waiting or running:
        _skip_hopeless(waiting, failures, advance)
        if not _submit_ready(pool, processes, waiting, running) and not running:
            return
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        broken = False
        for future in done:
            path = running.pop(future)
            broken |= _settle(future, path, waiting, failures, advance)
        if broken:
            for future, path in running.items():
                _settle(future, path, waiting, failures, advance)
            return


def _submit_ready(
    pool: ProcessPoolExecutor, processes: int, waiting: dict[Path, Task], running: dict[Future[str | None], Path]
) -> bool:
    """Submit no more than can run at once: what a broken pool held counts as tried. Returns whether the pool is whole."""
    suspects = {path: task for path, task in waiting.items() if task.tries}
    busy, limit = set(running.values()), 1 if suspects else processes
    for path, task in (suspects or waiting).items():
        if len(running) >= limit:
            break
        if path not in busy and not any(needed in waiting for needed in task.needs):
            try:
                running[pool.submit(_work, task.config)] = path
            except BrokenProcessPool:  # a worker died since the last look
                return False
    return True


def _skip_hopeless(waiting: dict[Path, Task], failures: dict[Path, str], advance: Advance) -> None:
    for path, task in list(waiting.items()):
        lost = [needed for needed in task.needs if needed in failures]
        if lost and task.cell.job != "evaluate":
            failures[path] = f"its input failed: {lost[0].name}"
            del waiting[path]
            advance(f"skipped {path.name}")


def _settle(
    future: Future[str | None], path: Path, waiting: dict[Path, Task], failures: dict[Path, str], advance: Advance
) -> bool:
    """Take a task's outcome. Returns whether its worker died, so that the pool is broken."""
    died = False
    try:
        reason = future.result()
    except BrokenProcessPool:
        died, reason = True, "its process died (out of memory, or killed)"
        waiting[path].tries += 1
        if waiting[path].tries < MAX_TRIES:
            return True
    if reason is not None:
        failures[path] = reason
    del waiting[path]
    advance(f"{'failed' if reason else 'done'} {path.name}")
    return died


def _pool(processes: int, threads: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_begin_worker, initargs=(threads,))


def _begin_worker(threads: int) -> None:
    os.environ[QUIET] = "1"
    logging.getLogger().setLevel(logging.INFO)
    threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()
    import torch

    torch.set_num_threads(threads)


def _die_with(parent: int) -> None:
    """End this worker when the sweep that started it is gone, however it went: what is left undone is resumed later."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _work(config: Config) -> str | None:
    """Run one task in a worker. Returns None, or why it failed in one line (the traceback is in its folder)."""
    try:
        run_job(config)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def finish(plan: Plan, failures: Mapping[Path, str]) -> None:
    """Show what failed, then report on what is there. Errors: `SweepFailedError` when a cell failed."""
    config = plan.cells[0][0]
    console = Console(stderr=True)
    if failures:
        console.print(_failure_table(failures))
    name = str(config["sweep"] or "unnamed")
    folders = [cell.folder for config, _ in plan.cells if (cell := cell_of(config)) is not None and cell.job != "train"]
    lost = [plan.tasks[path] for path in failures if path in plan.tasks and Folder(path).result() is None]
    failed = [{"job": task.cell.job, **task.cell.columns, "error": failures[task.cell.folder]} for task in lost]
    if folders:
        report_on(folders, Path(config["outputs"]), name, failed)
    if failures:
        raise SweepFailedError(f"{len(failures)} of {len(plan.tasks)} runs failed; the same command tries them again")


def _failure_table(failures: Mapping[Path, str]) -> Table:
    table = Table("failed run", "reason", title="Failures")
    for folder, reason in failures.items():
        table.add_row(folder.name, reason)
    return table


def show(plan: Plan, processes: int) -> int:
    """Print the state of every cell and what the rest will take. Returns the exit code: 0 all done, 3 some missing."""
    console, table = Console(), Table("job", "state", "overrides")
    for job, state, overrides in plan.states():
        table.add_row(job, state, " ".join(overrides))
    console.print(table)
    seconds, unknown = _estimate(plan)
    rest = (
        f"about {seconds / processes / 60:.0f} minutes in {processes} processes"
        if not unknown
        else "time unknown: none like them is finished"
    )
    console.print(f"{len(plan.tasks)} runs to do, inputs included: {rest if plan.tasks else 'nothing'}")
    return 3 if plan.tasks else 0


def _estimate(plan: Plan) -> tuple[float, bool]:
    """Seconds of the missing tasks from the mean of finished cells of the same job, and whether some job has none."""
    total, unknown = 0.0, False
    for job in {task.cell.job for task in plan.tasks.values()}:
        tasks = [task for task in plan.tasks.values() if task.cell.job == job]
        kind = tasks[0].cell.folder.parent
        known = [result["seconds"] for path in kind.glob("*") if (result := Folder(path).finished())]
        unknown |= not known
        total += len(tasks) * sum(known) / max(len(known), 1)
    return total, unknown


def as_results(plan: Plan, failures: Mapping[Path, str]) -> list[dict[str, Any]]:
    """The `result.json` of each stated cell, in order; failed ones say so."""
    folders = [cell.folder for config, _ in plan.cells if (cell := cell_of(config)) is not None]
    return [Folder(folder).result() or {"status": "failed", "error": failures.get(folder, "")} for folder in folders]
