"""What is done to a sweep while it runs, and what it must say to that."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from disturbed import PATIENCE, RUNS, STEP, TESTS, WHOLE, Disturbed, call


@dataclass(frozen=True)
class Moment:
    """When something happens: some seconds after the command began, a note was made or a file was there."""

    seconds: float
    notes: int = 0
    file: str = ""

    @classmethod
    def drawn(cls, draw: random.Random) -> "Moment":
        """At any time of a run of about 15 seconds."""
        kind = draw.choice(("start", "note", "note", "file", "file"))
        if kind == "start":
            return cls(draw.uniform(0, 6))
        if kind == "note":
            return cls(draw.uniform(0, 0.2), notes=draw.randint(1, 31))
        names = (
            "model.safetensors",
            "plan.json",
            "rows.parquet",
            "gallery.safetensors",
            "summary.parquet",
            "index.html",
        )
        return cls(draw.uniform(0, 0.2), file=draw.choice(names))

    def wait(self, sweep: Disturbed, process: subprocess.Popen[bytes]) -> None:
        """Until then, or until the command has ended."""
        before, files = len(sweep.notes), set(sweep.outputs.rglob(self.file or "no file"))
        while process.poll() is None:
            new_file = self.file and set(sweep.outputs.rglob(self.file)) - files
            if len(sweep.notes) >= before + self.notes and (new_file or not self.file):
                break
            time.sleep(0.01)
        time.sleep(self.seconds)


Disturbance = Callable[[Disturbed, random.Random], int]
"""Runs the command and does something to it; returns how many notes may have been lost by that."""


def kill_the_sweep(sweep: Disturbed, draw: random.Random) -> int:
    """kill -9 of its main process: the workers go by themselves."""
    return _killed(sweep, draw, lambda process: os.kill(process.pid, signal.SIGKILL))


def kill_all(sweep: Disturbed, draw: random.Random) -> int:
    """kill -9 of all its processes at once, as at the end of a machine."""
    return _killed(sweep, draw, lambda process: os.killpg(process.pid, signal.SIGKILL))


def _killed(sweep: Disturbed, draw: random.Random, kill: Callable[[subprocess.Popen[bytes]], None]) -> int:
    process = sweep.begin()
    Moment.drawn(draw).wait(sweep, process)
    if process.poll() is None:
        kill(process)
    assert sweep.end(process) in (-signal.SIGKILL, 0), sweep.log
    return 2 * STEP


def kill_a_worker(sweep: Disturbed, draw: random.Random) -> int:
    """kill -9 of one worker: the sweep goes on and tries its run once more."""
    return _worker(sweep, draw, signal.SIGKILL, STEP)


def stop_a_worker(sweep: Disturbed, draw: random.Random) -> int:
    """SIGTERM to one worker: it saves, and its run goes on."""
    return _worker(sweep, draw, signal.SIGTERM, 0)


def _worker(sweep: Disturbed, draw: random.Random, number: signal.Signals, lost: int) -> int:
    process = sweep.begin()
    Moment.drawn(draw).wait(sweep, process)
    workers = sweep.workers()
    if workers and process.poll() is None:
        os.kill(draw.choice(workers), number)
    assert sweep.end(process) == 0, sweep.log
    return lost


def stop_the_sweep(sweep: Disturbed, draw: random.Random) -> int:
    """SIGTERM to the main process: all save where they are."""
    process = sweep.begin()
    Moment.drawn(draw).wait(sweep, process)
    process.terminate()
    code = sweep.end(process)
    assert code in (128 + signal.SIGTERM, -signal.SIGTERM, 0), sweep.log
    assert code <= 0 or "stopped by SIGTERM, its state is saved" in sweep.log
    return 0


def fill_the_disk(sweep: Disturbed, draw: random.Random) -> int:
    """No more room, from some moment on; the sweep says so, and says which file."""
    used = shutil.disk_usage(sweep.disk).used
    sweep.sized(f"{(used + int(10 ** draw.uniform(3.5, 6.2))) // 1024 + 1}k")
    code = sweep.end(sweep.begin())
    sweep.sized(WHOLE)
    return _told(sweep, code, "No space left on device")


def close_the_disk(sweep: Disturbed, draw: random.Random) -> int:
    """The disk becomes read-only while the sweep runs; another command is refused at once."""
    process = sweep.begin()
    Moment.drawn(draw).wait(sweep, process)
    with sweep.read_only():
        code = sweep.end(process)
        assert sweep.end(sweep.begin()) == (1 if sweep.outputs.exists() else 2)
        assert "Read-only file system" in sweep.log.splitlines()[-1]
    return _told(sweep, code, "Read-only file system")


def _told(sweep: Disturbed, code: int, words: str) -> int:
    assert code in (0, 1, 2), sweep.log
    assert code == 0 or words in sweep.log
    assert "Traceback" not in sweep.log, sweep.log
    return 3 * RUNS


def begin_it_twice(sweep: Disturbed, draw: random.Random) -> int:
    """Two sweeps at once, in the same store: what one does the other waits for."""
    first = sweep.begin()
    time.sleep(draw.uniform(0, 6))
    second = sweep.begin()
    codes = (first.wait(PATIENCE), sweep.end(second))
    assert codes == (0, 0), sweep.log
    return 0


def turn_the_clock(sweep: Disturbed, draw: random.Random) -> int:
    """The clock jumps, by a second or by years, forth or back; what counts time must not follow it."""
    library, file = sweep.folder / "clock.so", sweep.folder / "clock"
    call("cc", "-shared", "-fPIC", "-o", library, TESTS / "chaos" / "clock.c")
    process = sweep.begin(LD_PRELOAD=str(library), CLOCK_OFFSET=str(file))
    Moment.drawn(draw).wait(sweep, process)
    beside = file.with_suffix(".new")
    beside.write_text(f"{draw.choice('+-')}{int(10 ** draw.uniform(0, 8))}")
    beside.replace(file)
    assert sweep.end(process) == 0, sweep.log
    return 0


DISTURBANCES: tuple[Disturbance, ...] = (
    *(kill_the_sweep, kill_all, kill_a_worker, stop_the_sweep, stop_a_worker),
    *(fill_the_disk, close_the_disk, begin_it_twice, turn_the_clock),
)
