"""Critical radii: the budget at which the metric of an example crosses a level (epsilon 50: one half).

An example whose metric never crosses the level is censored at the largest budget: its radius is larger by an unknown
amount. The mean over such radii does not exist, so the examples of a seed are summarised by their median, which exists if
fewer than half of them are censored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from runner.core.types import Direction
from runner.stats.seeds import group_keys, seed_interval


@dataclass(frozen=True)
class Level:
    """A metric crosses the level at `value` or below if its `direction` is higher, at `value` or above if lower."""

    value: float
    direction: Direction


def halfway(direction: Direction, bounds: tuple[float, float]) -> Level | None:
    """The middle of a metric's range (0.5 for a share); None for an unbounded range."""
    low, high = bounds
    return Level((low + high) / 2.0, direction) if math.isfinite(low) and math.isfinite(high) else None


def radii_of_curves(epsilons: Sequence[float] | np.ndarray, values: np.ndarray, level: Level) -> np.ndarray:
    """(N,) smallest budgets at which curves (N, E) reach the level, linear between neighbouring budgets.

    Budgets may come in any order; infinite ones are left out, since no value can be interpolated up to them. The radius is
    the smallest budget for a curve that starts across the level, inf for one that never crosses it, nan for one with an
    undefined value, and nan for all if there are fewer than two finite budgets.
    """
    budgets = np.asarray(epsilons, dtype=np.float64)
    order = np.argsort(budgets, kind="stable")[: int(np.isfinite(budgets).sum())]
    budgets, heights = budgets[order], np.asarray(values, dtype=np.float64)[:, order]
    if budgets.size < 2:
        return np.full(len(heights), np.nan)
    sign = 1.0 if level.direction == "higher" else -1.0
    left = sign * (heights - level.value)
    across = left <= 0
    after = np.maximum(across.argmax(axis=1), 1)
    rows = np.arange(len(heights))
    start, end = left[rows, after - 1], left[rows, after]
    fall = np.where(start > end, start - end, 1.0)
    inside = budgets[after - 1] + start / fall * (budgets[after] - budgets[after - 1])
    radii = np.where(across[:, 0], budgets[0], np.where(across.any(axis=1), inside, np.inf))
    return np.where(np.isnan(heights).any(axis=1), np.nan, radii)


def critical_radii(rows: pd.DataFrame, levels: Mapping[str, Level]) -> pd.DataFrame:
    """One row per (configuration, seed, metric, example) with `level`, `radius` (see `radii_of_curves`) and `largest`, the
    largest finite budget, at which a radius of inf is censored."""
    by = [*group_keys(rows), "seed"]
    frames = [pd.DataFrame(columns=[*by, "example_id", "metric", "level", "radius", "largest"])]
    for _, part in rows.groupby(_grids(rows, by), sort=False) if levels else ():
        curves = part.pivot(index=[*by, "example_id"], columns="epsilon", values=list(levels))
        for metric, level in levels.items():
            budgets = curves[metric].columns.to_numpy(dtype=np.float64)
            finite = budgets[np.isfinite(budgets)]
            radii = radii_of_curves(budgets, curves[metric].to_numpy(dtype=np.float64), level)
            frame = curves.index.to_frame(index=False).assign(metric=metric, level=level.value, radius=radii)
            frames.append(frame.assign(largest=finite.max() if finite.size else np.nan))
    return pd.concat(frames[1:] or frames, ignore_index=True)


def _grids(rows: pd.DataFrame, by: Sequence[str]) -> pd.Series:
    """A number for each row that is equal for configurations with the same budgets."""
    budgets = rows.groupby(list(by), sort=False, dropna=False, observed=True)["epsilon"]
    return budgets.transform(lambda epsilons: hash(tuple(np.unique(epsilons))))


def critical(rows: pd.DataFrame, levels: Mapping[str, Level], confidence: float = 0.95) -> pd.DataFrame:
    """Median critical radii: one row per (configuration, metric), in units of epsilon.

    `mean`, `low`, `high`, `n_seeds`: of the seeds' medians over examples. A seed has a median only if fewer than half of
    its examples are censored, and `mean` is nan unless every seed has one: leaving seeds out would bias it. `low` and `high`
    are then the largest budget and inf if the median of every seed lies beyond that budget, else nan.
    `at_least`: mean of the medians with the largest budget in place of larger radii, a lower bound that always exists.
    `never`: share of examples, averaged over the seeds, that never cross the level. `undefined`: examples without a radius.
    """
    by = [*group_keys(rows), "metric", "level"]
    records: list[dict[str, Any]] = []
    for names, seeds in _per_seed(rows, levels).groupby(by, sort=False, dropna=False, observed=True):
        known = seeds.dropna(subset="at_least")
        values = _over_seeds(known["at_least"].to_numpy(), known["never"].to_numpy(), confidence)
        records.append({**dict(zip(by, names, strict=True)), **values, "undefined": int(seeds["undefined"].sum())})
    return pd.DataFrame(records, columns=[*by, "mean", "low", "high", "n_seeds", "at_least", "never", "undefined"])


def _per_seed(rows: pd.DataFrame, levels: Mapping[str, Level]) -> pd.DataFrame:
    """One row per (configuration, metric, seed): the median with the largest budget in place of larger radii, and the shares."""
    radii = critical_radii(rows, levels)
    radius = radii["radius"].astype(float)
    capped = radii[["radius", "largest"]].astype(float).min(axis=1, skipna=False)
    never = (radius == math.inf).astype(float).where(radius.notna())
    marked = radii.assign(at_least=capped, never=never, undefined=radius.isna())
    by = [*group_keys(rows), "metric", "level", "seed"]
    seeds = marked.groupby(by, sort=False, dropna=False, observed=True)
    shares = {"at_least": ("at_least", "median"), "never": ("never", "mean"), "undefined": ("undefined", "sum")}
    return seeds.agg(**shares).reset_index()


def _over_seeds(medians: np.ndarray, never: np.ndarray, confidence: float) -> dict[str, float]:
    """From the seeds' medians (with the largest budget in place of larger radii) and shares of censored examples."""
    interval = seed_interval(medians, confidence)
    known = {"n_seeds": interval.n, "at_least": interval.mean, "never": seed_interval(never).mean}
    if (never < 0.5).all():
        return {"mean": interval.mean, "low": interval.low, "high": interval.high, **known}
    ends = (interval.mean, math.inf) if (never > 0.5).all() else (math.nan, math.nan)
    return {"mean": math.nan, "low": ends[0], "high": ends[1], **known}
