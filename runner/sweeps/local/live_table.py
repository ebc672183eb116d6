"""Progress of a sweep on this machine: a live table of its processes on a terminal, log lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from runner.core.activity import FOLDER, Activity, read
from runner.core.progress import Advance, bar, progress


@contextmanager
def overview(total: int) -> Iterator[Advance]:
    """Show the progress of a sweep; yields the function to call after each task. Start the workers inside the context."""
    if not sys.stderr.isatty():
        with progress("sweep", total) as advance:
            yield advance
        return
    with TemporaryDirectory(prefix="runner-") as folder:
        console = Console(stderr=True)
        shown = bar(console)
        task = shown.add_task("sweep", total=total, text="")
        os.environ[FOLDER] = folder
        try:
            with Live(
                get_renderable=lambda: Group(*table(read(Path(folder)), time.monotonic()), shown.get_renderable()),
                console=console,
                refresh_per_second=2,
            ):
                yield lambda text: shown.update(task, advance=1, text=escape(text))
        finally:
            del os.environ[FOLDER]


def table(activities: Sequence[Activity], now: float) -> list[Table]:
    """One row per process: its id, its run, the time so far (minutes and seconds), and its progress; empty without processes."""
    shown = Table("process", "run", "time", "steps", "")
    for each in activities:
        minutes, seconds = divmod(int(now - each.began), 60)
        steps = f"{each.done}/{each.total}" if each.total else ""
        shown.add_row(str(each.process), escape(each.run), f"{minutes}:{seconds:02d}", steps, escape(each.text))
    return [shown] if activities else []
