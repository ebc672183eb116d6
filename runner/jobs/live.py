"""What a sweep shows while it runs on this machine: on a terminal a live table of its processes, elsewhere a line now and then."""

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

from runner.core.board import BOARD, Working, read
from runner.core.progress import Advance, bar, progress


@contextmanager
def overview(total: int) -> Iterator[Advance]:
    """Show the tasks of a sweep; yields the function to call after each. The workers must be started inside it."""
    if not sys.stderr.isatty():
        with progress("sweep", total) as advance:
            yield advance
        return
    with TemporaryDirectory(prefix="runner-") as folder:
        console = Console(stderr=True)
        shown = bar(console)
        task = shown.add_task("sweep", total=total, text="")
        os.environ[BOARD] = folder
        try:
            with Live(
                get_renderable=lambda: Group(*table(read(Path(folder)), time.monotonic()), shown.get_renderable()),
                console=console,
                refresh_per_second=2,
            ):
                yield lambda text: shown.update(task, advance=1, text=escape(text))
        finally:
            del os.environ[BOARD]


def table(working: Sequence[Working], now: float) -> list[Table]:
    """A row a process: its number, the run that it does, for how long (minutes and seconds), how far it is. None without one."""
    shown = Table("process", "run", "time", "steps", "")
    for each in working:
        minutes, seconds = divmod(int(now - each.began), 60)
        steps = f"{each.done}/{each.total}" if each.total else ""
        shown.add_row(str(each.process), escape(each.run), f"{minutes}:{seconds:02d}", steps, escape(each.text))
    return [shown] if working else []
