"""Numbers as they are shown: rounded by their interval, and marked within a block as the best or as tied with it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

DASH = "\N{EN DASH}"
NBSP = "\N{NO-BREAK SPACE}"

FIXED = 5
"""Numbers that need more decimal places than this are written in powers of ten."""


@dataclass(frozen=True)
class Column:
    """One column of numbers: `key` names it in `Analysis.table`."""

    key: str
    title: str
    direction: str = ""
    """Which values are better; empty if neither."""
    scale: float = 1.0
    """Factor between the stored and the shown number."""
    interval: bool = True
    places: int = 0
    """Decimal places of a column without intervals."""
    group: str = ""
    """Heading that neighbouring columns share."""

    @property
    def heading(self) -> str:
        """Title with an arrow towards the better values."""
        arrow = {"higher": f"{NBSP}↑", "lower": f"{NBSP}↓"}.get(self.direction, "")
        return f"{self.title}{arrow}"


@dataclass(frozen=True)
class Value:
    """One shown number."""

    mean: str
    half: str = ""
    """Half the interval; empty for numbers that cannot have one."""
    number: float = math.nan
    """The mean, unrounded and unscaled; the lower bound if only that is known."""
    best: bool = False
    """Whether it is the best mean of its block."""
    tie: bool = False
    """Whether its interval overlaps that of the best mean, or is unknown."""

    @property
    def text(self) -> str:
        """Mean ± half the interval."""
        return f"{self.mean} ± {self.half}" if self.half else self.mean

    @property
    def plain(self) -> str:
        """The text with its tie mark."""
        return f"{self.text} ≈" if self.tie else self.text


def show(number: float, form: str) -> str:
    """The number in a format such as '.1f'; a dash for nan."""
    return DASH if math.isnan(number) else f"{number:{form}}"


def decimals(rows: pd.DataFrame, column: Column) -> int:
    """Decimal places of a column: two significant digits of the median half interval, at most three places.

    Without intervals: three significant digits of the largest mean; also if three places would show only zeros.
    """
    if not column.interval or column.key not in rows:
        return column.places
    half = (_half_widths(rows, column.key) * column.scale).abs()
    typical = half[(half > 0) & (half < math.inf)].median()
    largest = (_means(rows, column.key) * column.scale).abs().max()
    most = 3 if math.isnan(largest) or largest >= 0.001 or largest == 0 else 2 - math.floor(math.log10(largest))
    if math.isnan(typical):
        typical = largest / 10.0 if largest > 0 else 1.0
    return int(min(max(1 - math.floor(math.log10(typical)), 0), most))


def column_values(rows: pd.DataFrame, column: Column, places: int) -> list[Value]:
    """One column of one block. A mean that is only known to exceed a bound is shown and ranked as that bound."""
    means, censored = _means(rows, column.key), _stored(rows, f"{column.key}_over").notna()
    best, ties = _marks(rows, column)
    form = f".{places}f" if places <= FIXED else ".2e"
    values = []
    for index, half in enumerate(_half_widths(rows, column.key)):
        number = float(means.iloc[index])
        bound = f">{NBSP}" if censored.iloc[index] else ""
        shown = column.interval and not math.isnan(number) and not bound
        text = bound + show(number * column.scale, form)
        half_text = show(half * column.scale, form) if shown else ""
        values.append(Value(text, half_text, number, index in best, index in ties))
    return values


def _stored(rows: pd.DataFrame, key: str) -> pd.Series:
    return rows[key].astype(float) if key in rows else pd.Series(math.nan, index=rows.index)


def _means(rows: pd.DataFrame, key: str) -> pd.Series:
    """Means; their lower bound where they are censored."""
    return _stored(rows, key).fillna(_stored(rows, f"{key}_over"))


def _half_widths(rows: pd.DataFrame, key: str) -> pd.Series:
    return (_stored(rows, f"{key}_high") - _stored(rows, f"{key}_low")) / 2.0


def _marks(rows: pd.DataFrame, column: Column) -> tuple[set[int], set[int]]:
    """(positions of the best mean, positions of means that the intervals do not separate from it)."""
    means = _means(rows, column.key).reset_index(drop=True)
    known = means.dropna()
    if not column.direction or len(known) < 2:
        return set(), set()
    best = known.index[known == (known.max() if column.direction == "higher" else known.min())]
    if len(best) > 1 and _stored(rows, f"{column.key}_over").reset_index(drop=True)[best].notna().all():
        return set(), set()  # which of them is largest lies beyond the budgets
    lows, highs = (_stored(rows, f"{column.key}_{end}").reset_index(drop=True)[known.index] for end in ("low", "high"))
    apart = (lows > highs[best[0]]) | (highs < lows[best[0]])
    return set(best), set(known.index[~apart]) - set(best)
