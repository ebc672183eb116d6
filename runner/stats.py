"""From rows (one per example and epsilon) to means, intervals and areas. Everything before this file is per example.

The unit of replication is the training seed: examples are averaged within a seed first, and intervals are Student-t
over the seeds' means (n - 1 degrees of freedom), as is right for the few seeds that training affords. The spread over
examples is reported beside them and never mixed into the interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from scipy.special import stdtrit

GROUP_KEYS = ("dataset", "model", "defense", "attribution", "attack", "norm", "group_id")
"""What rows of one cell share over its seeds. `group_id` is used where the rows carry it."""

QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}

AreaKind = Literal["index", "range", "raw"]
AREA_KINDS: tuple[AreaKind, ...] = get_args(AreaKind)


@dataclass(frozen=True)
class Interval:
    """Mean over `n` seeds with its confidence interval; `low` and `high` are nan for fewer than two seeds."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Half the interval's length, nan where there is none."""
        return (self.high - self.low) / 2.0


def seed_interval(values: Sequence[float] | np.ndarray | pd.Series, confidence: float = 0.95) -> Interval:
    """Student-t interval of the mean of one value a seed: mean ± t(n-1) * s / sqrt(n), s with n - 1 in the denominator.

    One seed says nothing about the spread over seeds: `low` and `high` are nan. A seed without a value (nan: the metric
    is undefined on all of its examples) does not count towards `n`.
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
    half = float(stdtrit(n - 1, 0.5 + confidence / 2.0)) * float(array.std(ddof=1)) / n**0.5
    return Interval(mean, mean - half, mean + half, n)


def group_keys(rows: pd.DataFrame) -> list[str]:
    """Those of `GROUP_KEYS` that the rows carry."""
    return [key for key in GROUP_KEYS if key in rows.columns]


def intervals(values: pd.DataFrame, by: Sequence[str], value: str, confidence: float = 0.95) -> pd.DataFrame:
    """One row per `by` with mean, low, high, n_seeds of column `value`, which holds one number a seed."""
    records = []
    for key, group in values.groupby(list(by), sort=False, dropna=False, observed=True)[value]:
        interval = asdict(seed_interval(group.to_numpy(), confidence))
        records.append({**dict(zip(by, key, strict=True)), **interval})
    return pd.DataFrame(records, columns=[*by, "mean", "low", "high", "n"]).rename(columns={"n": "n_seeds"})


def summarise(rows: pd.DataFrame, metrics: Sequence[str], confidence: float = 0.95) -> pd.DataFrame:
    """Metric-against-epsilon curves: one row per (group, epsilon, metric).

    Columns: the group keys, epsilon, metric; mean, low, high, n_seeds (over the seeds' means); n_examples (distinct);
    undefined (number of nan values, which the means leave out); std and q05 ... q95 (over the pooled examples);
    unharmed (share of examples that the attack left as they were; nan at epsilon 0) and label_preserved (share).
    """
    by = [*group_keys(rows), "epsilon", "metric"]
    long = rows.melt([*by[:-1], "seed"], list(metrics), var_name="metric", value_name="value")
    means = _seed_means(long, by)
    curves = intervals(means, by, "value", confidence)
    return curves.merge(_spread(long, by), on=by).merge(_shares(rows), on=by[:-1])


def _seed_means(long: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    return long.groupby([*by, "seed"], sort=False, dropna=False, observed=True)["value"].mean().reset_index()


def _spread(long: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    values = long.groupby(list(by), sort=False, dropna=False, observed=True)["value"]
    quantiles = values.quantile(np.array(list(QUANTILES.values()))).unstack()
    quantiles.columns = pd.Index(list(QUANTILES))
    frame = pd.DataFrame({"undefined": values.size() - values.count(), "std": values.std()})
    return frame.join(quantiles).reset_index()


def _shares(rows: pd.DataFrame) -> pd.DataFrame:
    by = [*group_keys(rows), "epsilon"]
    unharmed = (rows["perturbation_norm"] == 0).astype(float).where(rows["epsilon"] > 0)
    marked = rows.assign(unharmed=unharmed, label_preserved=rows["label_preserved"].astype(float))
    grouped = marked.groupby(by, sort=False, dropna=False, observed=True)
    shares = grouped[["unharmed", "label_preserved"]].mean()
    return shares.assign(n_examples=grouped["example_id"].nunique()).reset_index()


def area_under_curve(
    epsilons: Sequence[float] | np.ndarray,
    values: Sequence[float] | np.ndarray,
    how: AreaKind = "range",
    include_zero: bool = True,
) -> float:
    """Trapezoid under a metric's curve; budgets in any order, infinite ones excluded.

    `index`: budgets one unit apart, whatever their values (the numbers of Wang et al. 2020 are of that size);
    `raw`: in units of epsilon; `range`: raw divided by (largest - smallest budget), a mean over the budgets that keeps
    the metric's unit. `include_zero=False` leaves epsilon 0 out. Fewer than two budgets have no area: nan.
    """
    if how not in AREA_KINDS:
        raise ValueError(f"how={how}: allowed are {', '.join(AREA_KINDS)}")
    budgets, heights = np.asarray(epsilons, dtype=np.float64), np.asarray(values, dtype=np.float64)
    kept = np.isfinite(budgets) & ((budgets > 0) | include_zero)
    order = np.argsort(budgets[kept], kind="stable")
    budgets, heights = budgets[kept][order], heights[kept][order]
    if budgets.size < 2:
        return float("nan")
    if np.any(np.diff(budgets) <= 0):
        raise ValueError(f"epsilons={budgets.tolist()}: a budget occurs twice")
    positions = np.arange(budgets.size, dtype=np.float64) if how == "index" else budgets
    area = float(np.trapezoid(heights, positions))
    return area / float(budgets[-1] - budgets[0]) if how == "range" else area


def areas(
    rows: pd.DataFrame, metrics: Sequence[str], include_zero: bool = True, confidence: float = 0.95
) -> pd.DataFrame:
    """Areas under the curves: one row per (group, metric, how) with mean, low, high, n_seeds.

    The area is taken within each seed, then averaged over the seeds. It is nan (and `n_seeds` 0) for a group whose
    grid has fewer than two finite budgets.
    """
    keys = group_keys(rows)
    long = rows.melt([*keys, "epsilon", "seed"], list(metrics), var_name="metric", value_name="value")
    means = _seed_means(long, [*keys, "epsilon", "metric"])
    records: list[dict[str, Any]] = []
    by = [*keys, "metric", "seed"]
    for key, curve in means.groupby(by, sort=False, dropna=False, observed=True):
        x, y = curve["epsilon"].to_numpy(), curve["value"].to_numpy()
        for how in AREA_KINDS:
            area = area_under_curve(x, y, how, include_zero)
            records.append({**dict(zip(by, key, strict=True)), "how": how, "area": area})
    frame = pd.DataFrame(records, columns=[*by, "how", "area"])
    return intervals(frame, [*keys, "metric", "how"], "area", confidence)
