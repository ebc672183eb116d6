"""What a sweep prints: its plan before, its failures and its report after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runner.core.command_line import command_with
from runner.runs.run import Run
from runner.store.folder import Folder
from runner.sweeps.axes import Point, label, points_of, varying
from runner.sweeps.plan import Plan
from runner.sweeps.time_estimate import seconds_of, work_of

STATES = ("done", "missing", "failed", "stale", "running")
"""States of a cell, in the order of the columns; skipped cells are in no column."""

LISTED = 30
"""Sweeps with at most this many cells are also shown cell by cell."""


class SweepFailedError(HydraException):
    """Some cells of a sweep failed."""


def finish(plan: Plan, failures: Mapping[Path, str]) -> None:
    """Print the failures of this call and of earlier ones, then write the report.

    Errors: `SweepFailedError` when a run failed; else `OSError` when the report cannot be written.
    """
    from runner.report.stored_runs import report_on

    console = Console(stderr=True)
    failures = {**plan.left_alone(), **failures}
    _print_table(console, _failure_table(failures))
    _print_notes(console, plan)
    shown = [run for run in plan.runs if run.job.name != "train"]
    unrecorded = [run for run in _runs(plan) if run.folder in failures and Folder(run.folder).result() is None]
    failed = [{"job": run.job.name, **run.columns, "error": failures[run.folder]} for run in unrecorded]
    try:
        if shown:
            report_on([run.folder for run in shown], shown[0].outputs, shown[0].sweep, failed)
    except OSError as error:
        if not failures:
            raise
        console.print(f"no report: {error}", markup=False, highlight=False, soft_wrap=True)
    if failures:
        total = len(plan.tasks.keys() | failures.keys())
        raise SweepFailedError(f"{len(failures)} of {total} runs failed; to rerun them: {rerun_command('failed')}")


def rerun_command(rerun: str) -> str:
    """The command line of this process with this value of `rerun`."""
    return command_with(f"rerun={rerun}", without=("hydra.launcher.dry_run",))


def _runs(plan: Plan) -> list[Run]:
    """The runs of the cells, and the inputs to execute, each once."""
    tasks = {folder: task.run for folder, task in plan.tasks.items()}
    return list({**tasks, **{run.folder: run for run in plan.runs}}.values())


def _failure_table(failures: Mapping[Path, str]) -> Table:
    table = Table("failed run", "reason", title="Failures")
    for folder, reason in failures.items():
        table.add_row(folder.name, escape(reason))
    return table


def _count_table(heading: str, counted: str, counts: Mapping[str, int]) -> Table:
    table = Table(heading)
    table.add_column(counted, justify="right")
    for text, count in counts.items():
        table.add_row(escape(text), str(count))
    return table


def _print_table(console: Console, table: Table) -> None:
    if table.row_count:
        console.print(table)


def _print_notes(console: Console, plan: Plan) -> None:
    """Print which runs are stale, without a fingerprint, or failed earlier, and how to rerun them."""
    kept = {folder: reason for folder, reason in plan.stale.items() if folder not in plan.tasks}
    _print_table(console, _count_table("stale because", "runs", Counter(kept.values())))
    for count, text in (
        (len(kept), f"finished runs are stale and were kept; to rerun them: {rerun_command('stale')}"),
        (len(plan.unknown), "finished runs are older than fingerprints and count as done"),
        (len(plan.left_alone()), f"runs failed earlier and were skipped; to rerun them: {rerun_command('failed')}"),
    ):
        if count:
            console.print(f"{count} {text}", markup=False, highlight=False, soft_wrap=True)


def print_plan(plan: Plan, processes: int, gpus: int = 0) -> int:
    """Print the state of a sweep and the estimated time of the rest; `gpus` is per process.

    Returns the exit code: 0 if all cells are done, else 3.
    """
    console = Console()
    states = [state for state in plan.states() if state != "skipped"]
    points = points_of([cell.overrides for cell in plan.cells if cell.skipped is None], plan.zipped)
    axes = varying(points)
    if len(plan.cells) <= LISTED:
        console.print(_cell_table(plan))
    for axis, rows in axes.items():
        console.print(_axis_table(axis, rows, [own.get(axis, ()) for own in points], states))
    _print_table(console, _failure_table(plan.failed))
    _print_table(console, _count_table("skipped because", "cells", Counter(plan.skipped)))
    _print_notes(console, plan)
    counts = ", ".join(f"{states.count(state)} {state}" for state in STATES)
    console.print(f"{len(states)} cells: {counts}" + (f"; {len(plan.skipped)} skipped" if plan.skipped else ""))
    console.print(f"{len(plan.tasks)} runs to do, inputs included: {_rest(plan, processes, gpus)}", soft_wrap=True)
    return 0 if not plan.tasks and {*states} <= {"done"} else 3


def _rest(plan: Plan, processes: int, gpus: int) -> str:
    if not plan.tasks:
        return "nothing"
    runs = [task.run for task in plan.tasks.values()]
    each = seconds_of(runs)
    known = [seconds for seconds in each if seconds is not None]
    unknown = Counter(run.job.name for run, seconds in zip(runs, each, strict=True) if seconds is None)
    if not known:
        return "time unknown: no similar run is finished"
    seconds, processes = sum(known), min(processes, len(plan.tasks))
    cost = f"{seconds * gpus / 3600:.1f} GPU hours" if gpus else f"{_duration(seconds)} in one"
    others = "".join(f"; the time of {count} {job} runs is unknown" for job, count in unknown.items())
    return f"about {_duration(seconds / processes)} in {processes} processes, {cost}{others}{_begun(runs)}"


def _begun(runs: Sequence[Run]) -> str:
    """How many of the runs have saved work, and how long that took; empty if none has."""
    saved = [work.seconds for run in runs if (work := work_of(run)) is not None]
    return f"; {len(saved)} begun, with {_duration(sum(saved))} of work saved" if saved else ""


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _cell_table(plan: Plan) -> Table:
    table, points = Table("job", "state", "overrides"), points_of([cell.overrides for cell in plan.cells], plan.zipped)
    axes = varying(points)
    for cell, state, own in zip(plan.cells, plan.states(), points, strict=True):
        overrides = [text for axis in axes for text in own.get(axis, ())]
        table.add_row(cell.job if cell.run is None else cell.run.job.name, state, escape(" ".join(overrides)))
    return table


def _axis_table(axis: str, rows: Sequence[Point], points: Sequence[Point], states: Sequence[str]) -> Table:
    table = Table(axis)
    for heading in (*STATES, "total"):
        table.add_column(heading, justify="right")
    counts = Counter(zip(points, states, strict=True))
    for row in rows:
        numbers = [counts[row, state] for state in STATES]
        table.add_row(escape(label(axis, row)), *map(str, (*numbers, sum(numbers))))
    return table


def result_of(folder: Path, failures: Mapping[Path, str]) -> dict[str, Any]:
    """The `result.json` of a run; for a run that failed without one, the same fields with the reason."""
    return Folder(folder).result() or {"status": "failed", "error": failures.get(folder, "")}
