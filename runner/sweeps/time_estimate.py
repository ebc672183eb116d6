"""How long the missing runs of a sweep will take, from what they and similar runs have taken so far."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from runner.runs.effort import Effort, saved_effort
from runner.runs.fingerprint import code_of
from runner.runs.run import Run
from runner.store import replacement
from runner.store.folder import Folder


def seconds_of(runs: Iterable[Run]) -> list[float | None]:
    """Seconds that each of these runs still takes; None if nothing is known about such a job.

    A run with saved work goes on at its own speed. The estimate of any other is the mean over the runs that agree with it in the
    most leading columns of `Job.alike`: finished ones, and unfinished ones at the speed of their saved work.
    """
    means: dict[Path, dict[tuple[str, ...], float]] = {}
    return [_seconds(run, means) if (work := work_of(run)) is None else work.rest for run in runs]


def _seconds(run: Run, means: dict[Path, dict[tuple[str, ...], float]]) -> float | None:
    """The seconds of a run from its beginning; `means` keeps what is read from the store."""
    kind, columns = run.folder.parent, run.job.alike
    if kind not in means:
        means[kind] = _means(kind, columns)
    values = tuple(str(run.columns[column]) for column in columns)
    known = (means[kind].get(values[:count]) for count in range(len(values), -1, -1))
    return next((seconds for seconds in known if seconds is not None), None)


def work_of(run: Run) -> Effort | None:
    """The saved work from which an unfinished run, or the rerun of a finished one, will continue; None without any."""
    own = Folder(run.folder)
    folder = replacement.rerun_folder(run.folder) if own.finished() else own
    effort = saved_effort(folder)
    if effort is None or effort.share == 0:
        return None
    return effort if replacement.resumes(code_of(run), folder) else None


def _means(kind: Path, columns: tuple[str, ...]) -> dict[tuple[str, ...], float]:
    """Mean seconds of the runs in a folder of the store, by the values of their leading columns."""
    found: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for stated, seconds in _measured(kind):
        values = tuple(str(stated.get(column)) for column in columns)
        for count in range(len(values) + 1):
            found[values[:count]].append(seconds)
    return {values: fmean(seconds) for values, seconds in found.items()}


def _measured(kind: Path) -> Iterator[tuple[Mapping[str, Any], float]]:
    """The columns and the seconds of every run in a folder of the store whose speed is known."""
    for path in kind.glob("*"):
        for folder in (Folder(path), replacement.rerun_folder(path)):
            if (result := folder.finished()) is not None:
                yield result, float(result["seconds"])
            elif (effort := saved_effort(folder)) is not None and effort.share > 0:
                yield effort.columns, effort.whole
