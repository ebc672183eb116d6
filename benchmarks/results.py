"""Results of a machine: rows, how two of them compare, and the dated files that hold them."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.case import FIGURES, Case, Figure, Sides
from benchmarks.timing import Timed

FOLDER = Path(__file__).parent / "results"
SAME = 0.05
"""Medians closer than 5 % count as equal, however narrow the ranges of a few rounds are."""


@dataclass(frozen=True)
class Row:
    """One case on one network, in one place. `value` is a median, `low` and `high` its range over the rounds."""

    case: str
    what: str
    peer: str
    network: str
    where: str
    figure: str
    value: float
    low: float
    high: float
    target: float | None
    ours_seconds: float
    theirs_seconds: float | None
    ours_mib: float | None
    theirs_mib: float | None
    rounds: int
    agreement: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same row in another file."""
        return self.case, self.network, self.where

    @property
    def kind(self) -> Figure:
        """How the value came from seconds."""
        return FIGURES[self.figure]

    @property
    def verdict(self) -> str:
        """Whether the target is met."""
        if self.target is None:
            return ""
        return "met" if self.kind.reached(self.value, self.target) else "missed"

    def worse_than(self, before: Row) -> bool:
        """Whether it is worse by more than the noise: each median lies outside the range of the other, on the wrong side."""
        old, new = before.value, self.value
        if abs(new - old) <= SAME * abs(old):
            return False
        return new < before.low and self.high < old if self.kind.rises else new > before.high and self.low > old


def row(case: Case, network: str, where: str, sides: Sides, timed: Timed, agreement: str) -> Row:
    """The figure of each round, and their median and range."""
    rounds = [dict(zip(timed.seconds, values, strict=True)) for values in zip(*timed.seconds.values(), strict=True)]
    found = [case.figure.of(seconds, sides.work) for seconds in rounds]
    ours, theirs = next(iter(timed.seconds)), list(timed.seconds)[-1]  # a growth: the smallest and the largest size
    alone = ours == theirs
    return Row(
        case=case.name,
        what=case.what,
        peer=case.peer,
        network=network,
        where=where,
        figure=case.figure.name,
        value=statistics.median(found),
        low=min(found),
        high=max(found),
        target=case.target,
        ours_seconds=statistics.median(timed.seconds[ours]),
        theirs_seconds=None if alone else statistics.median(timed.seconds[theirs]),
        ours_mib=timed.mebibytes[ours],
        theirs_mib=None if alone else timed.mebibytes[theirs],
        rounds=len(found),
        agreement=agreement,
    )


def write(rows: Sequence[Row], file: Path) -> None:
    """A csv file."""
    file.parent.mkdir(exist_ok=True)
    names = [field.name for field in fields(Row)]
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, names, lineterminator="\n")
        writer.writeheader()
        for one in rows:
            rounded = {key: f"{value:.5g}" if isinstance(value, float) else value for key, value in asdict(one).items()}
            writer.writerow(rounded)


def read(file: Path) -> list[Row]:
    """The rows of a csv file."""
    with file.open(newline="", encoding="utf-8") as lines:
        return [Row(**{key: _parsed(key, text) for key, text in line.items()}) for line in csv.DictReader(lines)]


def _parsed(key: str, text: str) -> Any:
    kind = str(Row.__annotations__[key])
    if kind == "str":
        return text
    if text == "" and kind.endswith("None"):
        return None
    return int(text) if kind == "int" else float(text)


def latest(machine: str) -> Path | None:
    """The last csv file of this machine."""
    return max(FOLDER.glob(f"????-??-??-{machine}.csv"), default=None)


def stem(machine: str) -> Path:
    """Where today's files of a machine go, without suffix."""
    return FOLDER / f"{datetime.now(UTC):%Y-%m-%d}-{machine}"
