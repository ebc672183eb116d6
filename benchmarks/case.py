"""What a case is: two or more runs that are first compared and then timed in turns, and one figure of their seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from benchmarks.networks import Subject

Run = Callable[[], object]
Seconds = Mapping[str, float]
Where = Literal["one", "all", "gpu"]
"""One CPU thread, all cores, or a GPU."""
PLACES: tuple[Where, ...] = get_args(Where)


class UnequalError(AssertionError):
    """The two sides of a case do not compute the same, or ours is weaker: a comparison of their times says nothing."""


@dataclass(frozen=True)
class Sides:
    """A case on one network and device, ready to run."""

    check: Callable[[], str]
    """Compares the sides and says what was equal. Errors: `UnequalError`."""
    runs: Mapping[str, Run]
    """By name: `ours` and, with a peer, `theirs`; or one for each size of a growth."""
    work: Mapping[str, float] = field(default_factory=dict)
    """How much a run does: examples (times are compared for each), a size, or floating-point operations. By default 1."""


@dataclass(frozen=True)
class Figure:
    """How seconds become the number of a case."""

    name: str
    of: Callable[[Seconds, Seconds], float]
    """(seconds, work) by run -> the number."""
    rises: bool
    """Whether larger is better."""

    def reached(self, value: float, target: float) -> bool:
        """Whether a value meets a target."""
        return value >= target if self.rises else value <= target

    def margin(self, value: float, target: float) -> float:
        """How many times as good as the target: at least 1 if it is met."""
        return value / target if self.rises else target / value


def each(seconds: Seconds, work: Seconds, run: str) -> float:
    """Seconds of a run for one unit of work."""
    return seconds[run] / work.get(run, 1.0)


def _slope(seconds: Seconds, work: Seconds) -> float:
    sizes, times = ([values[run] for run in seconds] for values in (work, seconds))
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


RATIO = Figure("peer / ours", lambda seconds, work: each(seconds, work, "theirs") / each(seconds, work, "ours"), True)
COST = Figure("ours / peer", lambda seconds, work: each(seconds, work, "ours") / each(seconds, work, "theirs"), False)
SECONDS = Figure("seconds", lambda seconds, work: each(seconds, work, "ours"), False)
SLOPE = Figure("log-log slope", _slope, False)
SHARE = Figure("share", lambda seconds, work: each(seconds, work, "theirs") / each(seconds, work, "ours"), True)
"""Work in floating-point operations: the speed of ours as a share of theirs."""
FIGURES = {figure.name: figure for figure in (RATIO, COST, SECONDS, SLOPE, SHARE)}


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    what: str
    peer: str
    target: float | None
    """What the figure must reach; None where nobody has said."""
    prepare: Callable[[Subject], Sides]
    figure: Figure = RATIO
    needs: tuple[str, ...] = ()
    """Packages of the peer."""
    where: tuple[Where, ...] = ("one", "all", "gpu")


def require(good: bool, says: str) -> str:
    """`says`, as the outcome of a check. Errors: `UnequalError` with it unless `good`."""
    if not good:
        raise UnequalError(says)
    return says
