"""Executes the tasks of a plan in several processes on this machine."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from runner.core import signals
from runner.core.errors import reason
from runner.core.progress import QUIET, Advance
from runner.core.secrets import hidden
from runner.runs.run import Run
from runner.runs.run_job import run_job
from runner.runs.run_once import record_death
from runner.sweeps.local.live_table import overview
from runner.sweeps.plan import Plan, Task

MAX_TRIES = 2
log = logging.getLogger(__name__)


def run_local(plan: Plan, processes: int) -> dict[Path, str]:
    """Execute all tasks in worker processes, inputs first. Returns the reasons of failures by folder.

    The cores' threads are divided among the processes. A dead worker breaks the whole pool, so tasks whose worker died get a
    second attempt one at a time. Tasks with a failed input are skipped. A worker that receives a stop signal saves its state,
    and its task resumes in the next attempt. Errors: `StopRequested` when the sweep itself is stopped; all workers save their
    state first.
    """
    waiting, failures = dict(plan.tasks), dict[Path, str]()
    if not waiting:
        return failures
    threads = max((os.cpu_count() or 1) // processes, 1)
    with signals.listening(), overview(len(waiting)) as advance:
        while waiting:
            with _pool(min(processes, len(waiting)), threads) as pool:
                intact = False
                try:
                    intact = _drain(pool, processes, waiting, failures, advance)
                finally:
                    if not intact:
                        _stop_workers()
    return failures


def _drain(
    pool: ProcessPoolExecutor, processes: int, waiting: dict[Path, Task], failures: dict[Path, str], advance: Advance
) -> bool:
    """Submit tasks as they become ready, until all are done or a worker dies. Returns whether the pool is intact.

    Errors: `StopRequested`; the workers keep running then.
    """
    running: dict[Future[str | None], Path] = {}
    while waiting or running:
        _skip_blocked(waiting, failures, advance)
        if not _submit_ready(pool, processes, waiting, running) and not running:
            return False
        done, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
        signals.check()
        broken = False
        for future in done:
            path = running.pop(future)
            broken |= _collect(future, path, waiting, failures, advance)
        if broken:
            for future, path in running.items():
                _collect(future, path, waiting, failures, advance)
            return False
    return True


def _stop_workers() -> None:
    """Signal the workers of a pool until all have ended.

    Once is not enough: a worker that is just finishing its task ignores the signal and would wait for the next task forever.
    """
    while workers := multiprocessing.active_children():
        for process in workers:
            process.terminate()
        time.sleep(0.1)


def _submit_ready(
    pool: ProcessPoolExecutor, processes: int, waiting: dict[Path, Task], running: dict[Future[str | None], Path]
) -> bool:
    """Submit only what can run now, since all submitted tasks of a broken pool count as attempts. Returns whether it is intact."""
    suspects = {path: task for path, task in waiting.items() if task.tries}
    busy, limit = set(running.values()), 1 if suspects else processes
    for path, task in (suspects or waiting).items():
        if len(running) >= limit:
            break
        if path not in busy and not any(needed in waiting for needed in task.needs):
            try:
                running[pool.submit(_work, task.run)] = path
            except BrokenProcessPool:  # a worker has died in the meantime
                return False
    return True


def _skip_blocked(waiting: dict[Path, Task], failures: dict[Path, str], advance: Advance) -> None:
    for path, task in list(waiting.items()):
        failed = [needed for needed in task.needs if needed in failures]
        if failed and task.run.job.needs_all_inputs:
            failures[path] = f"its input failed: {failed[0].name}"
            del waiting[path]
            advance(f"skipped {path.name}")


def _collect(
    future: Future[str | None], path: Path, waiting: dict[Path, Task], failures: dict[Path, str], advance: Advance
) -> bool:
    """Record the outcome of a task. Returns whether its worker died, which breaks the pool."""
    died = False
    try:
        reason = future.result()
    except BrokenProcessPool:
        died, reason = True, "its process died (out of memory, or killed)"
        waiting[path].tries += 1
        if waiting[path].tries < MAX_TRIES:
            return True
        _record_death(waiting[path], reason)
    except signals.StopRequested as stop:
        reason = str(stop)
        waiting[path].tries += 1
        if waiting[path].tries < MAX_TRIES:
            return False
    if reason is not None:
        failures[path] = reason
    del waiting[path]
    advance(f"{'failed' if reason else 'done'} {path.name}")
    return died


def _record_death(task: Task, why: str) -> None:
    """Record the failure of a run that killed its process, so that neither an evaluation nor the next sweep repeats it."""
    try:
        record_death(task.run, why)
    except OSError as error:
        log.warning("%s: %s, and this cannot be recorded: %s", task.run.folder.name, why, error)


def _pool(processes: int, threads: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(
        processes, mp_context=context, initializer=_begin_worker, initargs=(threads, os.getpid())
    )


def _begin_worker(threads: int, parent: int) -> None:
    os.environ[QUIET] = "1"
    logging.getLogger().setLevel(logging.INFO)
    logging.raiseExceptions = False  # as in the process that started this one
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()
    import torch

    torch.set_num_threads(threads)


def _exit_with_parent(parent: int) -> None:
    """End this worker when the process that started it has ended; unfinished work is resumed later."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _work(run: Run) -> str | None:
    """Execute a run in a worker. Returns None, or the reason of its failure in one line (the traceback is in its folder)."""
    try:
        with signals.listening():
            run_job(run)
    except Exception as error:
        return hidden(reason(error))
    return None
