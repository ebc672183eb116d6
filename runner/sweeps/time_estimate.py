"""How long the missing runs of a sweep will take, from similar finished runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean

from runner.runs.run import Run
from runner.store.folder import Folder


def seconds_of(runs: Iterable[Run]) -> float | None:
    """Total seconds of these runs; None if no run of such a job is finished.

    The estimate of a run is the mean over the finished runs that agree with it in the most leading columns of `Job.alike`.
    """
    total = 0.0
    means: dict[Path, dict[tuple[str, ...], float]] = {}
    for run in runs:
        kind, columns = run.folder.parent, run.job.alike
        if kind not in means:
            means[kind] = _means(kind, columns)
        values = tuple(str(run.columns[column]) for column in columns)
        known = (means[kind].get(values[:count]) for count in range(len(values), -1, -1))
        nearest = next((seconds for seconds in known if seconds is not None), None)
        if nearest is None:
            return None
        total += nearest
    return total


def _means(kind: Path, columns: tuple[str, ...]) -> dict[tuple[str, ...], float]:
    """Mean seconds of the finished runs in a folder of the store, by the values of their leading columns."""
    found: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for path in kind.glob("*"):
        result = Folder(path).finished()
        if result is None:
            continue
        values = tuple(str(result.get(column)) for column in columns)
        for count in range(len(values) + 1):
            found[values[:count]].append(float(result["seconds"]))
    return {values: fmean(seconds) for values, seconds in found.items()}
