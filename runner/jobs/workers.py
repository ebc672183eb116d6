"""The missing tasks of a plan, done in several processes of this machine."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from runner.core import stopping
from runner.core.errors import reason
from runner.core.identity import Config
from runner.core.progress import QUIET, Advance
from runner.core.secrets import hidden
from runner.jobs import run_job
from runner.jobs.live import overview
from runner.jobs.once import record_death
from runner.jobs.plan import Plan, Task

MAX_TRIES = 2
log = logging.getLogger(__name__)


def run_local(plan: Plan, processes: int) -> dict[Path, str]:
    """Do every missing task in worker processes, inputs first. Returns the reasons of failure by folder.

    Threads are shared out over the processes. A task whose worker dies is tried once more, alone, since the death of one
    worker takes those beside it along; one whose input failed is not tried at all. A worker that is told to stop saves its
    state, and its task goes on in the next try. Errors: `StopRequested` when the sweep is told to stop: all workers then save
    theirs.
    """
    waiting, failures = dict(plan.tasks), dict[Path, str]()
    if not waiting:
        return failures
    threads = max((os.cpu_count() or 1) // processes, 1)
    with stopping.listening(), overview(len(waiting)) as advance:
        while waiting:
            with _pool(min(processes, len(waiting)), threads) as pool:
                whole = False
                try:
                    whole = _drain(pool, processes, waiting, failures, advance)
                finally:
                    if not whole:
                        _end_workers()
    return failures


def _drain(
    pool: ProcessPoolExecutor, processes: int, waiting: dict[Path, Task], failures: dict[Path, str], advance: Advance
) -> bool:
    """Feed ready tasks to the pool until all are done, or until a worker's death breaks it. Returns whether it is whole.

    Errors: `StopRequested`; the workers go on then.
    """
    running: dict[Future[str | None], Path] = {}
    while waiting or running:
        _skip_hopeless(waiting, failures, advance)
        if not _submit_ready(pool, processes, waiting, running) and not running:
            return False
        done, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
        stopping.check()
        broken = False
        for future in done:
            path = running.pop(future)
            broken |= _settle(future, path, waiting, failures, advance)
        if broken:
            for future, path in running.items():
                _settle(future, path, waiting, failures, advance)
            return False
    return True


def _end_workers() -> None:
    """Tell the workers of a pool to stop until they have.

    Once is not enough: a worker that had all but done its task forgets what it was told, and waits for the next task for ever.
    """
    while workers := multiprocessing.active_children():
        for process in workers:
            process.terminate()
        time.sleep(0.1)


def _submit_ready(
    pool: ProcessPoolExecutor, processes: int, waiting: dict[Path, Task], running: dict[Future[str | None], Path]
) -> bool:
    """Submit no more than can run at once: what a broken pool held counts as tried. Returns whether the pool is whole."""
    suspects = {path: task for path, task in waiting.items() if task.tries}
    busy, limit = set(running.values()), 1 if suspects else processes
    for path, task in (suspects or waiting).items():
        if len(running) >= limit:
            break
        if path not in busy and not any(needed in waiting for needed in task.needs):
            try:
                running[pool.submit(_work, task.config)] = path
            except BrokenProcessPool:  # a worker died since the last look
                return False
    return True


def _skip_hopeless(waiting: dict[Path, Task], failures: dict[Path, str], advance: Advance) -> None:
    for path, task in list(waiting.items()):
        lost = [needed for needed in task.needs if needed in failures]
        if lost and task.cell.job != "evaluate":
            failures[path] = f"its input failed: {lost[0].name}"
            del waiting[path]
            advance(f"skipped {path.name}")


def _settle(
    future: Future[str | None], path: Path, waiting: dict[Path, Task], failures: dict[Path, str], advance: Advance
) -> bool:
    """Take a task's outcome. Returns whether its worker died, so that the pool is broken."""
    died = False
    try:
        reason = future.result()
    except BrokenProcessPool:
        died, reason = True, "its process died (out of memory, or killed)"
        waiting[path].tries += 1
        if waiting[path].tries < MAX_TRIES:
            return True
        _note_death(waiting[path], reason)
    except stopping.StopRequested as stop:
        reason = str(stop)
        waiting[path].tries += 1
        if waiting[path].tries < MAX_TRIES:
            return False
    if reason is not None:
        failures[path] = reason
    del waiting[path]
    advance(f"{'failed' if reason else 'done'} {path.name}")
    return died


def _note_death(task: Task, why: str) -> None:
    """Have the folder of a run that killed its process say so: an evaluation must not try it again, nor the next sweep."""
    try:
        record_death(task.cell, why)
    except OSError as error:
        log.warning("%s: %s, and it cannot be written down: %s", task.cell.folder.name, why, error)


def _pool(processes: int, threads: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(
        processes, mp_context=context, initializer=_begin_worker, initargs=(threads, os.getpid())
    )


def _begin_worker(threads: int, parent: int) -> None:
    os.environ[QUIET] = "1"
    logging.getLogger().setLevel(logging.INFO)
    logging.raiseExceptions = False  # as in the process that started this one
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    import torch

    torch.set_num_threads(threads)


def _die_with(parent: int) -> None:
    """End this worker when the sweep that started it is gone, however it went: what is left undone is resumed later."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _work(config: Config) -> str | None:
    """Run one task in a worker. Returns None, or why it failed in one line (the traceback is in its folder)."""
    try:
        with stopping.listening():
            run_job(config)
    except Exception as error:
        return hidden(reason(error))
    return None
