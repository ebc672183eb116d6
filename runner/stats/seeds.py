"""Intervals over training seeds.

The unit of replication is the training seed: examples are averaged within a seed first, and intervals are Student-t
over the seeds' means (n - 1 degrees of freedom), because training allows only a few seeds. The spread over examples is
reported separately and never mixed into the interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

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
    n = array.size
    if n == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    mean = float(array.mean())
    if n == 1:
        return Interval(mean, float("nan"), float("nan"), 1)
    from scipy.special import stdtrit  # late: not needed if the run is finished

    half = float(stdtrit(n - 1, 0.5 + confidence / 2.0)) * float(array.std(ddof=1)) / n**0.5
    return Interval(mean, mean - half, mean + half, n)


def group_keys(rows: pd.DataFrame) -> list[str]:
    """Those of `GROUP_KEYS` that the rows carry."""
    return [key for key in GROUP_KEYS if key in rows.columns]


def intervals(values: pd.DataFrame, by: Sequence[str], value: str, confidence: float = 0.95) -> pd.DataFrame:
    """One row per `by` with mean, low, high, n_seeds of column `value`, which holds one number per seed."""
    records = []
    for key, group in values.groupby(list(by), sort=False, dropna=False, observed=True)[value]:
        interval = asdict(seed_interval(group.to_numpy(), confidence))
        records.append({**dict(zip(by, key, strict=True)), **interval})
    return pd.DataFrame(records, columns=[*by, "mean", "low", "high", "n"]).rename(columns={"n": "n_seeds"})
