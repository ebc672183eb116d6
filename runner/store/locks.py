"""One process at a time works in a run's folder, under a file lock that the system releases when its holder dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from runner.core import signals
from runner.store.folder import Folder


@contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[Folder]:
    """Lock a run's folder for this process. If another process holds it, call `waiting` once and wait.

    Errors: `StopRequested` when a signal arrives while waiting.
    """
    file = _lock_file(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        _acquire(lock, waiting)
        path.mkdir(parents=True, exist_ok=True)
        yield Folder(path)
    finally:
        lock.release()


def _acquire(lock: FileLock, waiting: Callable[[], None] | None) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if waiting is not None:
            waiting()
    while not lock.is_locked:
        with suppress(Timeout):
            lock.acquire(timeout=1.0)
        signals.check()


def held(path: Path) -> bool:
    """Whether a process holds the lock of a run's folder now; False if the lock file cannot be opened."""
    file = _lock_file(path)
    if not file.is_file():
        return False
    try:
        with FileLock(file, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def _lock_file(path: Path) -> Path:
    return path.parent / ".locks" / f"{path.name}.lock"
