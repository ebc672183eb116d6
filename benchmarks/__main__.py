"""`python -m benchmarks run|check|table [CASE...]`: `make bench`, `make bench-check`, and the table of the README."""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from collections.abc import Iterator, Sequence

import torch

from benchmarks import results
from benchmarks.case import PLACES, Case, UnequalError, Where
from benchmarks.cases import CASES
from benchmarks.machine import head, machine_name
from benchmarks.networks import SHAPES, subject
from benchmarks.picture import draw
from benchmarks.results import Row
from benchmarks.tables import summary, table, worse
from benchmarks.timing import cores, time_in_turns

USUAL = "small_cnn"


def main(words: Sequence[str] | None = None) -> int:
    """0, or 1 if the sides of a case do not agree, or if a figure is worse than before."""
    asked = _parser().parse_args(words)
    machine = machine_name() + ("" if asked.network == USUAL else f"-{asked.network.replace('_', '-')}")
    last = results.latest(machine)
    if asked.action != "run" and last is None:
        _tell(f"no file of {machine} in {results.FOLDER}: run `make bench` first")
        return 1
    before = [] if last is None else results.read(last)
    if asked.action == "table":
        _tell(summary(before))
        return 0
    chosen = [CASES[name] for name in asked.cases] or list(CASES.values())
    rows, failed = _run(chosen, asked)
    if asked.action == "check":
        return _compare(rows, before, failed)
    if not asked.cases and rows:
        _write(rows, machine, asked)
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("action", choices=("run", "check", "table"))
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--network", choices=list(SHAPES), default=USUAL)
    parser.add_argument("--where", nargs="*", choices=PLACES, default=PLACES, help="by default all that there are")
    parser.add_argument("--seconds", type=float, default=5.0, help="for the rounds of a case in one place")
    parser.add_argument("--note", default="", help="a sentence for the head of the file, such as: on a busy machine")
    return parser


def _run(chosen: Sequence[Case], asked: argparse.Namespace) -> tuple[list[Row], bool]:
    """The rows, and whether the sides of any case did not agree."""
    logging.disable(logging.WARNING)  # flags of searches with few steps
    warnings.filterwarnings("ignore")  # of the peers
    rows, failed = [], False
    for number, case in enumerate(chosen, 1):
        place = f"[{number:2}/{len(chosen)}] {case.name}"
        try:
            for row in _rows(case, asked):
                rows.append(row)
                _tell(f"{place}, {row.where}: {_told(row)}")
        except UnequalError as error:
            failed = True
            _tell(f"{place}: NOT TIMED, the sides do not agree: {error}")
    return rows, failed


def _rows(case: Case, asked: argparse.Namespace) -> Iterator[Row]:
    """The case in every place that it is for and that this machine has. Errors: `UnequalError`."""
    places: dict[str, list[Where]] = {"cpu": ["one", "all"] if cores() > 1 else ["one"], "cuda": ["gpu"]}
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        wanted = [where for where in places[device] if where in case.where and where in asked.where]
        if not wanted:
            continue
        torch.set_num_threads(cores())
        sides = case.prepare(subject(asked.network, device))
        agreement = sides.check()
        for where in wanted:
            timed = time_in_turns(sides.runs, where, asked.seconds)
            yield results.row(case, asked.network, where, sides, timed, agreement)


def _told(row: Row) -> str:
    aim = "" if row.target is None else f", target {row.target:g} {row.verdict}"
    passed = time.monotonic() - _BEGAN
    clock = f"{int(passed // 60)}:{int(passed % 60):02}"
    return f"{row.figure} {row.value:.3g} ({row.low:.3g} to {row.high:.3g}){aim}; {row.agreement}; {clock}"


def _write(rows: Sequence[Row], machine: str, asked: argparse.Namespace) -> None:
    stem = results.stem(machine)
    command = "make bench" + ("" if asked.network == USUAL else f" NETWORK={asked.network}")
    results.write(rows, stem.with_suffix(".csv"))
    stem.with_suffix(".md").write_text(f"{head(stem.name, command, asked.note)}\n{table(rows)}\n", encoding="utf-8")
    draw(rows, stem.with_suffix(".png"), stem.name)
    _tell(f"wrote {stem}.csv, .md and .png")


def _compare(rows: Sequence[Row], before: Sequence[Row], failed: bool) -> int:
    lines = worse(rows, before)
    for line in lines:
        _tell(f"WORSE {line}")
    known = {row.key for row in before}
    compared = sum(row.key in known for row in rows)
    _tell(f"{len(lines)} of {compared} figures are worse than before by more than the noise")
    return int(failed or bool(lines))


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


_BEGAN = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())
