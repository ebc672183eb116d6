"""What a sweep shows: its plan before, its failures and its report after."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runner.core.store import Folder
from runner.jobs.axes import Point, key_of, label, points_of, varying
from runner.jobs.cells import Cell
from runner.jobs.estimate import seconds_of
from runner.jobs.plan import Plan

STATES = ("done", "missing", "failed", "stale", "running")
"""How a cell can stand, in the order of the columns; one that is skipped is in no column."""

LISTED = 30
"""A sweep of no more cells is shown cell by cell too."""


class SweepFailedError(HydraException):
    """Some cells of a sweep failed."""


def finish(plan: Plan, failures: Mapping[Path, str]) -> None:
    """Show what failed, now or before, then report on what is there.

    Errors: `SweepFailedError` when a cell failed; else `OSError` when the report cannot be written.
    """
    from runner.jobs.report import report_on

    config, console = plan.cells[0][0], Console(stderr=True)
    failures = {**plan.kept(), **failures}
    _print_table(console, _failure_table(failures))
    _print_notes(console, plan)
    name = str(config["sweep"])
    folders = [cell.folder for cell in plan.runs if cell is not None and cell.job != "train"]
    lost = [cell for cell in _runs(plan) if cell.folder in failures and Folder(cell.folder).result() is None]
    failed = [{"job": cell.job, **cell.columns, "error": failures[cell.folder]} for cell in lost]
    try:
        if folders:
            report_on(folders, Path(config["outputs"]), name, failed)
    except OSError as error:
        if not failures:
            raise
        console.print(f"no report: {error}", markup=False, highlight=False, soft_wrap=True)
    if failures:
        total = len(plan.tasks.keys() | failures.keys())
        raise SweepFailedError(f"{len(failures)} of {total} runs failed; to try them again: {again('failed')}")


def again(rerun: str) -> str:
    """The command line of this process with another `rerun`, to be pasted into a shell."""
    given = [text for text in sys.argv[1:] if key_of(text) not in ("rerun", "hydra.launcher.dry_run")]
    end = max((place for place, text in enumerate(given, 1) if "=" in text and text[0] != "-"), default=len(given))
    typed = sys.orig_argv[: -len(sys.argv[1:]) or None]
    started = typed if [*typed, *sys.argv[1:]] == sys.orig_argv and sys.argv[0] in typed else ["python", "run.py"]
    return shlex.join(
        [*started, *given[:end], f"rerun={rerun}", *given[end:]]
    )  # Hydra wants its overrides side by side


def _runs(plan: Plan) -> list[Cell]:
    """The stated runs and the inputs that are to be done, each once."""
    tasks = {folder: task.cell for folder, task in plan.tasks.items()}
    return list({**tasks, **{cell.folder: cell for cell in plan.runs if cell is not None}}.values())


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
    """What is stale or of unknown code, and how to make it again; what failed and is left alone."""
    kept = {folder: reason for folder, reason in plan.stale.items() if folder not in plan.tasks}
    _print_table(console, _count_table("stale because", "runs", Counter(kept.values())))
    for count, text in (
        (len(kept), f"finished runs are stale and were left as they are; to make them again: {again('stale')}"),
        (
            len(plan.unknown),
            "finished runs do not say which code made them (they are older than that) and count as done",
        ),
        (len(plan.kept()), f"runs failed before and were left alone; to try them again: {again('failed')}"),
    ):
        if count:
            console.print(f"{count} {text}", markup=False, highlight=False, soft_wrap=True)


def show(plan: Plan, processes: int, gpus: int = 0) -> int:
    """Print how a sweep stands and what the rest will take, with so many GPUs a process.

    Returns the exit code: 0 all done, 3 some are not.
    """
    console = Console()
    stated = [place for place in range(len(plan.cells)) if place not in plan.skipped]
    states = [state for state in plan.states() if state != "skipped"]
    points = points_of([plan.cells[place][1] for place in stated], plan.zipped)
    axes = varying(points)
    if len(plan.cells) <= LISTED:
        console.print(_cell_table(plan))
    for axis, rows in axes.items():
        console.print(_axis_table(axis, rows, [own.get(axis, ()) for own in points], states))
    _print_table(console, _failure_table(plan.failed))
    _print_table(console, _count_table("skipped, since", "cells", Counter(plan.skipped.values())))
    _print_notes(console, plan)
    told = ", ".join(f"{states.count(state)} {state}" for state in STATES)
    console.print(f"{len(states)} cells: {told}" + (f"; {len(plan.skipped)} skipped" if plan.skipped else ""))
    console.print(f"{len(plan.tasks)} runs to do, inputs included: {_rest(plan, processes, gpus)}")
    return 0 if not plan.tasks and {*states} <= {"done"} else 3


def _rest(plan: Plan, processes: int, gpus: int) -> str:
    if not plan.tasks:
        return "nothing"
    seconds = seconds_of(task.cell for task in plan.tasks.values())
    if seconds is None:
        return "time unknown: none like them is finished"
    processes = min(processes, len(plan.tasks))
    cost = f"{seconds * gpus / 3600:.1f} GPU hours" if gpus else f"{_duration(seconds)} of one"
    return f"about {_duration(seconds / processes)} in {processes} processes, {cost}"


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _cell_table(plan: Plan) -> Table:
    table, points = Table("job", "state", "overrides"), points_of([own for _, own in plan.cells], plan.zipped)
    axes = varying(points)
    for (config, _), state, own in zip(plan.cells, plan.states(), points, strict=True):
        overrides = [text for axis in axes for text in own.get(axis, ())]
        table.add_row(config["job"]["name"], state, escape(" ".join(overrides)))
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
    """The `result.json` of a run; one that failed before it had any says so."""
    return Folder(folder).result() or {"status": "failed", "error": failures.get(folder, "")}
