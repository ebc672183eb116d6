"""One process at a time works in a run's folder, under a file lock that the system releases when its holder dies."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from runner.core import signals
from runner.core.errors import StoreError
from runner.store.folder import Folder

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)
"""What `flock` answers on a disk without file locks."""


@contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[Folder]:
    """Lock a run's folder for this process. If another process holds it, call `waiting` once and wait.

    Errors: `StopRequested` when a signal arrives while waiting; `StoreError` for a disk without file locks.
    """
    file = _lock_file(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file, fallback_to_soft=False)  # a soft lock would outlive its holder on another machine
    try:
        _acquire(lock, waiting)
        path.mkdir(parents=True, exist_ok=True)
        yield Folder(path)
    finally:
        lock.release()


def _acquire(lock: FileLock, waiting: Callable[[], None] | None) -> None:
    try:
        lock.acquire(timeout=0)
    except OSError as error:
        if error.errno in NO_LOCKS:
            place = Path(lock.lock_file).parent
            raise StoreError(
                f"outputs: the disk of {place} has no file locks ({error.strerror}); choose another disk"
            ) from None
        if not isinstance(error, Timeout):
            raise
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
        with FileLock(file, timeout=0, fallback_to_soft=False):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def _lock_file(path: Path) -> Path:
    return path.parent / ".locks" / f"{path.name}.lock"
