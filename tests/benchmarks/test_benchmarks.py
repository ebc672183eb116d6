"""The frame's arithmetic, and every case's check on tiny sizes. No test says anything about times."""

import importlib.util
from dataclasses import replace

import pytest
import torch

from benchmarks import timing
from benchmarks.case import COST, RATIO, SECONDS, SHARE, SLOPE, Case, Sides, UnequalError, require
from benchmarks.cases import CASES
from benchmarks.networks import subject
from benchmarks.results import Row, read, row, write
from benchmarks.tables import summary, worse
from benchmarks.timing import Timed, time_in_turns

SLOW = {
    *("planning_empty", "planning_finished", "import_torch", "help", "dry_run", "report"),
    *("finished_training", "finished_attack", "finished_evaluation", "ig_norm", "ig_norm_published"),
}
"""They start processes, or take long even on tiny sizes."""


def made(value: float, low: float, high: float, figure: str = "peer / ours", target: float | None = 2.0) -> Row:
    return Row("c", "w", "p", "n", "one", figure, value, low, high, target, 1.0, 2.0, None, 3.5, 3, "equal, all")


@pytest.mark.parametrize(
    ("figure", "seconds", "work", "value"),
    [
        (RATIO, {"ours": 2.0, "theirs": 3.0}, {}, 1.5),
        (RATIO, {"ours": 2.0, "theirs": 3.0}, {"ours": 50, "theirs": 10}, 7.5),
        (COST, {"ours": 6.0, "theirs": 2.0}, {}, 3.0),
        (SECONDS, {"ours": 6.0}, {"ours": 1.5}, 4.0),
        (SLOPE, {"1": 1.0, "2": 4.0, "4": 16.0}, {"1": 1, "2": 2, "4": 4}, 2.0),
        (SHARE, {"ours": 2.0, "theirs": 1.0}, {"ours": 100, "theirs": 200}, 0.25),
    ],
)
def test_a_figure_follows_from_seconds_and_work(figure, seconds, work, value) -> None:
    assert figure.of(seconds, work) == pytest.approx(value)


def test_a_row_is_the_median_of_the_rounds_figures() -> None:
    case = Case("c", "w", "p", 2.0, lambda subject: pytest.fail("not needed"))
    timed = Timed({"ours": [1.0, 2.0, 4.0], "theirs": [2.0, 8.0, 4.0]}, {"ours": 5.0, "theirs": None})
    found = row(case, "n", "one", Sides(lambda: "", {}), timed, "equal")
    assert (found.value, found.low, found.high, found.rounds) == (2.0, 1.0, 4.0, 3)
    assert (found.ours_seconds, found.theirs_seconds, found.ours_mib, found.theirs_mib) == (2.0, 4.0, 5.0, None)
    assert found.verdict == "met"
    assert replace(found, target=2.1).verdict == "missed"
    assert replace(found, figure=COST.name, target=2.1).verdict == "met"


@pytest.mark.parametrize(
    ("figure", "new", "bad"),
    [
        ("peer / ours", (1.5, 1.4, 1.6), True),
        ("peer / ours", (2.5, 2.4, 2.6), False),  # better
        ("peer / ours", (1.5, 1.4, 2.1), False),  # the old median is in the new range
        ("peer / ours", (1.93, 1.92, 1.94), False),  # by less than 5 %
        ("ours / peer", (2.5, 2.4, 2.6), True),
        ("ours / peer", (1.5, 1.4, 1.6), False),
        ("ours / peer", (2.5, 1.9, 2.6), False),
    ],
)
def test_worse_is_by_more_than_the_noise(figure, new, bad) -> None:
    before, now = made(2.0, 1.95, 2.05, figure), made(*new, figure)
    assert bool(worse([now], [before])) == bad
    assert worse([replace(now, case="new")], [before]) == []


def test_a_file_holds_the_rows(tmp_path) -> None:
    rows = [made(1.5, 1.0, 2.0), made(3.0, 2.0, 4.0, "seconds", None)]
    write(rows, tmp_path / "one.csv")
    assert read(tmp_path / "one.csv") == rows
    assert summary(rows).splitlines()[2:] == ["| w | p | 1 thread | peer / ours >= 2 |".replace("1 thread", "1.5")]


def test_runs_take_turns(monkeypatch) -> None:
    calls, clock = [], iter(range(1000))
    monkeypatch.setitem(timing._CLOCKS, "one", lambda: float(next(clock)))
    threads = torch.get_num_threads()
    timed = time_in_turns({name: lambda name=name: calls.append(name) for name in "ab"}, "one", budget=8.0)
    torch.set_num_threads(threads)
    assert timed.seconds == {"a": [1.0] * 4, "b": [1.0] * 4}
    assert "".join(calls) == "abbaabba"


def test_sides_that_differ_are_an_error() -> None:
    with pytest.raises(UnequalError, match="apart by 2"):
        require(False, "apart by 2")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in CASES]
)
@pytest.mark.filterwarnings("ignore:Input Tensor:UserWarning")
def test_both_sides_of_a_case_agree(name) -> None:
    missing = [package for package in CASES[name].needs if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"needs {missing[0]}, which make bench installs")
    assert CASES[name].prepare(subject(tiny=True)).check()
