"""Progress of long work: a bar with the time left on a terminal or in a notebook, a log line every 15 s elsewhere, nothing in
workers."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runner.core import activity

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

QUIET = "RUNNER_QUIET"
"""Environment variable that a sweep sets for its workers, whose progress it shows in one table (`activity`)."""

_SECONDS_BETWEEN_LINES = 15.0
_COLUMNS = 80
log = logging.getLogger(__name__)

Advance = Callable[[str], None]
"""Called after each step, with a short text about the current state."""


@contextmanager
def progress(title: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Show `total` steps, of which `done` are done already; yields the function to call after each step."""
    if os.environ.get(QUIET):
        yield activity.steps(total, done)
    elif sys.stderr.isatty():
        yield from _bar(title, total, done)
    elif "ipykernel" in sys.modules:
        yield from _notebook_bar(title, total, done)
    else:
        yield _lines(title, total, done)


def bar(console: Console) -> Progress:
    """A progress bar with the time left; its tasks have a `text` field."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    columns = (
        # the texts give way in a narrow terminal; bar, count and times stay whole
        TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
    )
    return Progress(*columns, console=console, expand=True)


def _bar(title: str, total: int, done: int) -> Iterator[Advance]:
    from rich.console import Console

    with bar(Console(stderr=True)) as shown:
        task = shown.add_task(title, total=total, completed=done, text="")
        yield lambda text: shown.update(task, advance=1, text=text)


def _notebook_bar(title: str, total: int, done: int) -> Iterator[Advance]:
    """One line of text that is written over: it needs no widgets, which many notebooks lack."""
    began, count = time.monotonic(), done

    def advance(text: str) -> None:
        nonlocal count
        count += 1
        left = (time.monotonic() - began) / max(count - done, 1) * (total - count)
        full = 20 * count // total
        line = f"{title} {'█' * full}{'░' * (20 - full)} {count} of {total}, {left:.0f} s left {text}"
        sys.stderr.write(f"\r{line[:_COLUMNS]:{_COLUMNS}}")
        sys.stderr.flush()

    yield advance
    sys.stderr.write("\n")


def _lines(title: str, total: int, done: int) -> Advance:
    began = last = time.monotonic()
    count = done

    def advance(text: str) -> None:
        nonlocal last, count
        count += 1
        now = time.monotonic()
        if count == total or now - last >= _SECONDS_BETWEEN_LINES:
            last = now
            left = (now - began) / max(count - done, 1) * (total - count)
            log.info("%s: %d of %d, %.0f s left. %s", title, count, total, left, text)

    return advance
