"""What a sweep shows: its plan before, its failures and its report after."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from rich.console import Console
from rich.table import Table

from runner.core.store import Folder
from runner.jobs.cells import cell_of
from runner.jobs.plan import Plan
from runner.jobs.report import report_on


class SweepFailedError(HydraException):
    """Some cells of a sweep failed."""


def finish(plan: Plan, failures: Mapping[Path, str]) -> None:
    """Show what failed, then report on what is there. Errors: `SweepFailedError` when a cell failed."""
    config = plan.cells[0][0]
    console = Console(stderr=True)
    if failures:
        console.print(_failure_table(failures))
    name = str(config["sweep"])
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
