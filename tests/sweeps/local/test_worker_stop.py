"""What a sweep in local processes does when it, or one of its workers, is told to stop; no model is trained here."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import light_work
import pytest
from fake_runs import FakeRun

from runner.core import signals
from runner.sweeps.local import workers
from runner.sweeps.plan import Plan, Task


def task(folder: Path, **config: object) -> Task:
    return Task(FakeRun("attack", folder, config=config), [])  # type: ignore[arg-type]


def test_a_sweep_that_is_told_to_stop_leaves_no_worker(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(workers, "_work", light_work.work)
    monkeypatch.setattr(workers, "_begin_worker", light_work.begin)
    log = tmp_path / "log"
    log.touch()
    plan = Plan([])
    plan.tasks |= {tmp_path / name: task(tmp_path / name, log=str(log), seconds=60) for name in ("a", "b", "c")}

    def tell() -> None:
        while len(log.read_text().split()) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=tell)
    thread.start()
    began = time.monotonic()
    with pytest.raises(signals.StopRequested, match="SIGTERM"):
        workers.run_local(plan, 2)
    thread.join()
    assert time.monotonic() - began < 50
    assert sorted(log.read_text().split()) == ["a", "b"]
    assert not workers.multiprocessing.active_children()


def test_a_task_whose_worker_was_told_to_stop_goes_on_once(tmp_path: Path) -> None:
    path = tmp_path / "a"
    waiting, failures, said = {path: task(path)}, dict[Path, str](), list[str]()
    future: Future[str | None] = Future()
    future.set_exception(signals.StopRequested(signal.SIGTERM))
    assert not workers._collect(future, path, waiting, failures, said.append)
    assert (waiting[path].tries, failures, said) == (1, {}, [])
    assert not workers._collect(future, path, waiting, failures, said.append)
    assert (waiting, failures, said) == ({}, {path: "stopped by SIGTERM"}, ["failed a"])


def test_a_worker_whose_sweep_is_gone_ends() -> None:
    code = "import os\nfrom runner.sweeps.local import workers\nworkers._exit_with_parent(os.getppid() + 1)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 1
