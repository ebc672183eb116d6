"""What each worker of a sweep is doing, in one small file per worker: the live table reads them. A worker may die at any moment."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = "RUNNER_ACTIVITY"
"""Environment variable with the folder of these files; set only when there is a live table."""

_SECONDS_BETWEEN_WRITES = 0.5


@dataclass
class Activity:
    """What a process is doing: its run, when that began (seconds of the monotonic clock), and its progress."""

    process: int
    run: str
    began: float
    done: int = 0
    total: int = 0
    text: str = ""


_own: list[Activity] = []


@contextmanager
def working_on(run: str) -> Iterator[None]:
    """Show `run` as this process's activity while the context is open; a nested run is shown in its place."""
    _own.append(Activity(os.getpid(), run, time.monotonic()))
    _write()
    try:
        yield
    finally:
        _own.pop()
        _write()


def steps(total: int, done: int) -> Callable[[str], None]:
    """The function to call after each step of this process's run."""
    if not _own:
        return lambda text: None
    own, written = _own[-1], time.monotonic()
    own.total, own.done = total, done
    _write()

    def advance(text: str) -> None:
        nonlocal written
        own.done, own.text = own.done + 1, text
        if time.monotonic() - written >= _SECONDS_BETWEEN_WRITES or own.done == total:
            written = time.monotonic()
            _write()

    return advance


def read(folder: Path) -> list[Activity]:
    """The activities of living processes, ordered by process id."""
    found = [Activity(**json.loads(file.read_text(encoding="utf-8"))) for file in folder.glob("[0-9]*.json")]
    return sorted((each for each in found if _is_alive(each.process)), key=lambda each: each.process)


def _write() -> None:
    """Write to a temporary file and rename it, since the table may read at any moment. Not flushed: nothing reads it later."""
    if FOLDER not in os.environ:
        return
    file = Path(os.environ[FOLDER]) / f"{os.getpid()}.json"
    if not _own:
        file.unlink(missing_ok=True)
        return
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(_own[-1])), encoding="utf-8")
    temporary.replace(file)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
