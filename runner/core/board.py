"""Where the workers of a sweep say what they do: a small file each, read for the live table. A worker may die at any moment."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

BOARD = "RUNNER_BOARD"
"""Environment variable: the folder of these files; none without a live table."""

_SECONDS_BETWEEN_WRITES = 0.5


@dataclass
class Working:
    """What a process does: a run, since when (seconds of the machine's monotonic clock), and how far it is."""

    process: int
    run: str
    began: float
    done: int = 0
    total: int = 0
    text: str = ""


_own: list[Working] = []


@contextmanager
def working_on(run: str) -> Iterator[None]:
    """Say that this process does a run, until it has; a run inside a run takes its place meanwhile."""
    _own.append(Working(os.getpid(), run, time.monotonic()))
    _write()
    try:
        yield
    finally:
        _own.pop()
        _write()


def steps(total: int, done: int) -> Callable[[str], None]:
    """What to call after each step of the run that this process does."""
    if not _own:
        return lambda text: None
    working, written = _own[-1], time.monotonic()
    working.total, working.done = total, done
    _write()

    def advance(text: str) -> None:
        nonlocal written
        working.done, working.text = working.done + 1, text
        if time.monotonic() - written >= _SECONDS_BETWEEN_WRITES or working.done == total:
            written = time.monotonic()
            _write()

    return advance


def read(folder: Path) -> list[Working]:
    """What living processes do now, in the order of their numbers."""
    found = [Working(**json.loads(file.read_text(encoding="utf-8"))) for file in folder.glob("[0-9]*.json")]
    return sorted((each for each in found if _lives(each.process)), key=lambda each: each.process)


def _write() -> None:
    """Write beside and rename: the reader comes at any moment. Nothing is flushed to disk, since nothing here survives."""
    if BOARD not in os.environ:
        return
    file = Path(os.environ[BOARD]) / f"{os.getpid()}.json"
    if not _own:
        file.unlink(missing_ok=True)
        return
    beside = file.with_suffix(".tmp")
    beside.write_text(json.dumps(asdict(_own[-1])), encoding="utf-8")
    beside.replace(file)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
