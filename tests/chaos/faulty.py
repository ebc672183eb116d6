"""A job in a process of its own that meets its end, or a full disk, at a chosen one of its accesses to the store."""

import errno
import logging
import multiprocessing
import os
import signal
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch

from runner.core import signals
from runner.runs.run import Run
from runner.runs.run_job import run_job

FORKS = multiprocessing.get_context("forkserver")
"""Processes that begin with what takes long to import, and in which nothing has run yet."""

FORKS.set_forkserver_preload(
    [
        "faulty",
        "runner.jobs.attack",
        "runner.jobs.evaluate",
        "runner.report.figures.files",
        "sklearn.datasets",
        "torch._dynamo",
    ]
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
PATIENCE = 120.0


def job(run: Run, fault: str = "", at: int = 0) -> tuple[int, int]:
    """Do a run. Returns its exit code, and how many accesses to the store there were (up to its end).

    `fault`: `kill` at access number `at`, `term` then, `full` for that and all later ones, `torn` once: an error of the device.
    """
    counted = FORKS.Value("i", 0)
    process: ForkServerProcess = FORKS.Process(target=_do, args=(run, fault, at, counted))
    process.start()
    process.join(PATIENCE)
    assert process.exitcode is not None, f"{fault} at {at}: it hangs"
    return process.exitcode, counted.value


def _do(run: Run, fault: str, at: int, counted: Any) -> None:
    torch.set_num_threads(1)
    logging.disable()
    sys.addaudithook(_Accesses(run.outputs, fault, at, counted))
    code = 0
    try:
        with signals.listening():
            run_job(run)
    except signals.StopRequested:
        code = 3
    except Exception:
        code = 1
    os._exit(code)


class _Accesses:
    """Counts what changes the store, or has been written beside and is flushed, and does harm at one of them."""

    def __init__(self, store: Path, fault: str, at: int, counted: Any) -> None:
        self.store, self.fault, self.at, self.counted = f"{store}/", fault, at, counted

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._counts(event, arguments):
            return
        self.counted.value += 1
        count = self.counted.value
        if count < self.at or (count > self.at and self.fault != "full"):
            return
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "term":
            os.kill(os.getpid(), signal.SIGTERM)
        if self.fault in ("full", "torn") and event in ("open", "os.mkdir"):
            raise OSError(errno.ENOSPC if self.fault == "full" else errno.EIO, "no luck", str(arguments[0]))

    def _counts(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event not in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"):
            return False
        if not str(arguments[0]).startswith(self.store) or str(arguments[0]).endswith((".lock", "run.log")):
            return False
        return event != "open" or bool(int(arguments[2]) & WRITING) or str(arguments[0]).endswith(".tmp")
