"""Intervals over training seeds.

The unit of replication is the training seed: examples are averaged within a seed first, and intervals are Student-t
over the seeds' means (n - 1 degrees of freedom), because training allows only a few seeds. The spread over examples is
reported separately and never mixed into the interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

GROUP_KEYS = ("dataset", "model", "defense", "attribution", "attack", "norm", "group_id")
"""Columns that the runs of one configuration share over their seeds; `group_id` where the rows carry it."""


@dataclass(frozen=True)
class Interval:
    """Mean over `n` seeds with its confidence interval; `low` and `high` are nan for fewer than two seeds."""

    mean: float
    low: float
    high: float
    n: int

    def columns(self, name: str) -> dict[str, float]:
        """The interval as columns of a table: `name`, `name_low` and `name_high`."""
        return {name: self.mean, f"{name}_low": self.low, f"{name}_high": self.high}


def seed_interval(values: Sequence[float] | np.ndarray | pd.Series, confidence: float = 0.95) -> Interval:
    """Student-t interval of the mean of one value per seed: mean ± t(n-1) * s / sqrt(n), s with n - 1 in the denominator.

    With one seed the spread over seeds is unknown: `low` and `high` are nan. A seed without a value (nan: the metric is
    undefined on all of its examples) does not count towards `n`. Errors: `ValueError` for a confidence outside (0, 1).
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence}: must be between 0 and 1")
    array = np.asarray(values, dtype=np.float64)
    array = array[~np.isnan(array)]
    if array.size == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    (mean,), (half,) = (found.tolist() for found in _mean_and_half(array[None], confidence))
    return Interval(mean, mean - half, mean + half, array.size)


def group_keys(rows: pd.DataFrame) -> list[str]:
    """Those of `GROUP_KEYS` that the rows carry."""
    return [key for key in GROUP_KEYS if key in rows.columns]


def intervals(values: pd.DataFrame, by: Sequence[str], value: str, confidence: float = 0.95) -> pd.DataFrame:
    """One row per `by` with mean, low, high, n_seeds of column `value`, which holds one number per seed."""
    groups = values.groupby(list(by), sort=False, dropna=False, observed=True)
    first = values.loc[~values.duplicated(list(by)), list(by)].reset_index(drop=True)
    found = seed_intervals(values[value].to_numpy(np.float64), groups.ngroup().to_numpy(), confidence)
    return first.assign(**found)


def seed_intervals(values: np.ndarray, groups: np.ndarray, confidence: float = 0.95) -> dict[str, np.ndarray]:
    """`seed_interval` of many groups of values at once: mean, low, high and n_seeds by group, for groups numbered from 0."""
    known = ~np.isnan(values)
    order = np.argsort(groups[known], kind="stable")
    n = np.bincount(groups[known], minlength=int(groups.max(initial=-1)) + 1)
    sorted_values, starts = values[known][order], np.cumsum(n) - n
    found = {name: np.full(len(n), np.nan) for name in ("mean", "low", "high")}
    for count in np.unique(n[n > 0]):
        alike = np.flatnonzero(n == count)
        members = sorted_values[starts[alike, None] + np.arange(count)]
        mean, half = _mean_and_half(members, confidence)
        found["mean"][alike], found["low"][alike], found["high"][alike] = mean, mean - half, mean + half
    return {**found, "n_seeds": n}


def _mean_and_half(values: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each row of (groups, n) values and half its interval; nan for n = 1."""
    n = values.shape[1]
    mean: np.ndarray = values.mean(axis=1)
    if n == 1:
        return mean, np.full(len(values), np.nan)
    from scipy.special import stdtrit  # late: not needed if the run is finished

    half: np.ndarray = float(stdtrit(n - 1, 0.5 + confidence / 2.0)) * values.std(axis=1, ddof=1) / n**0.5
    return mean, half
