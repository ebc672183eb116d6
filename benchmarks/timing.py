"""Times runs in turns: what slows the machine for a moment slows each of them alike, and their ratio hardly changes."""

from __future__ import annotations

import gc
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.case import Run, Where

SHORTEST = 0.2
"""Seconds: a shorter run is repeated until one timing takes so long."""
FEWEST, MOST = 3, 11
"""Rounds, each with one timing of each run."""


@dataclass(frozen=True)
class Timed:
    """The seconds of each run in each round, and the most memory that one call needs beyond what was in use."""

    seconds: Mapping[str, list[float]]
    mebibytes: Mapping[str, float | None]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def time_in_turns(runs: Mapping[str, Run], where: Where, budget: float) -> Timed:
    """As many rounds as fit into `budget` seconds, at least 3. The check has called each run before, so that nothing is cold."""
    torch.set_num_threads(cores() if where == "all" else 1)
    clock = _CLOCKS[where]
    first, memory = {}, {}
    for name, run in runs.items():
        reset, began = _reset_peak(where), clock()
        run()
        first[name], memory[name] = max(clock() - began, 1e-6), _peak(where, reset)
    calls = {name: max(1, math.ceil(SHORTEST / seconds)) for name, seconds in first.items()}
    round_takes = sum(calls[name] * seconds for name, seconds in first.items())
    counted = all(number == 1 for number in calls.values())  # then the first calls are a round like any other
    seconds = {name: [first[name]] if counted else [] for name in runs}
    for number in range(int(counted), min(MOST, max(FEWEST, int(budget / round_takes)))):
        gc.collect()
        for name in list(runs)[:: -1 if number % 2 else 1]:  # no run always comes first
            seconds[name].append(_each_call(runs[name], calls[name], clock))
    return Timed(seconds, memory)


def _each_call(run: Run, calls: int, clock: Callable[[], float]) -> float:
    began = clock()
    for _ in range(calls):
        run()
    return (clock() - began) / calls


def _cpu_seconds() -> float:
    """CPU time of this process and of the finished processes that it started: other people's work does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + used.ru_utime + used.ru_stime


def _gpu_seconds() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


_CLOCKS: Mapping[Where, Callable[[], float]] = {"one": _cpu_seconds, "all": time.perf_counter, "gpu": _gpu_seconds}


def _reset_peak(where: Where) -> float | None:
    """Forget the largest memory so far; returns what is in use, in MiB, or None where the system does not say."""
    gc.collect()
    if where == "gpu":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    if sys.platform != "linux":
        return None
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # a container that forbids it
        return None
    return _status("VmRSS")


def _peak(where: Where, before: float | None) -> float | None:
    if before is None:
        return None
    return (torch.cuda.max_memory_allocated() / 2**20 if where == "gpu" else _status("VmHWM")) - before


def _status(key: str) -> float:
    """MiB of a field of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024
