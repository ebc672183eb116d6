"""Curves against epsilon with their intervals, and the areas under them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd

from runner.stats.seeds import group_keys, intervals

QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}

AreaKind = Literal["index", "range", "raw"]
AREA_KINDS: tuple[AreaKind, ...] = get_args(AreaKind)


def summarise(rows: pd.DataFrame, metrics: Sequence[str], confidence: float = 0.95) -> pd.DataFrame:
    """Metric-against-epsilon curves: one row per (configuration, epsilon, metric).

    Columns: the group keys, epsilon, metric; mean, low, high, n_seeds (over the seeds' means); n_examples (distinct);
    undefined (number of nan values, which the means leave out); std and q05 ... q95 (over the pooled examples);
    unharmed (share of examples that the attack did not change; nan at epsilon 0) and label_preserved (share).
    """
    by = [*group_keys(rows), "epsilon", "metric"]
    long = rows.melt([*by[:-1], "seed"], list(metrics), var_name="metric", value_name="value")
    means = _seed_means(long, by)
    curves = intervals(means, by, "value", confidence)
    return curves.merge(_over_examples(long, by), on=by).merge(_shares(rows), on=by[:-1])


def _seed_means(long: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    return long.groupby([*by, "seed"], sort=False, dropna=False, observed=True)["value"].mean().reset_index()


def _over_examples(long: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
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
    """Area under a metric's curve by the trapezoid rule: see `areas_under_curves`."""
    return float(areas_under_curves(epsilons, values, how, include_zero))


def areas_under_curves(
    epsilons: Sequence[float] | np.ndarray,
    values: Sequence[float] | np.ndarray,
    how: AreaKind = "range",
    include_zero: bool = True,
) -> np.ndarray:
    """(...) areas under curves of (..., E) values at E budgets by the trapezoid rule; budgets in any order, infinite ones excluded.

    `index`: budgets one unit apart, whatever their values (Wang et al. 2020 report numbers of this size);
    `raw`: in units of epsilon; `range`: raw divided by (largest - smallest budget), a mean over the budgets that keeps
    the metric's unit. `include_zero=False` leaves epsilon 0 out. nan for fewer than two budgets. Errors: `ValueError` for an
    unknown `how` or a budget that occurs twice.
    """
    if how not in AREA_KINDS:
        raise ValueError(f"how={how}: allowed are {', '.join(AREA_KINDS)}")
    budgets, heights = np.asarray(epsilons, dtype=np.float64), np.asarray(values, dtype=np.float64)
    kept = np.isfinite(budgets) & ((budgets > 0) | include_zero)
    order = np.flatnonzero(kept)[np.argsort(budgets[kept], kind="stable")]
    budgets, heights = budgets[order], np.ascontiguousarray(heights[..., order])  # one curve is summed like many
    if budgets.size < 2:
        return np.full(heights.shape[:-1], np.nan)
    if np.any(np.diff(budgets) <= 0):
        raise ValueError(f"epsilons={budgets.tolist()}: a budget occurs twice")
    positions = np.arange(budgets.size, dtype=np.float64) if how == "index" else budgets
    area: np.ndarray = np.asarray(np.trapezoid(heights, positions))
    return area / (budgets[-1] - budgets[0]) if how == "range" else area


def areas(
    rows: pd.DataFrame, metrics: Sequence[str], include_zero: bool = True, confidence: float = 0.95
) -> pd.DataFrame:
    """Areas under the curves: one row per (configuration, metric, how) with mean, low, high, n_seeds, undefined.

    The area is taken within each seed, then averaged over the seeds. It is nan (and `n_seeds` 0) for a configuration
    whose grid has fewer than two finite budgets. A seed has no area, and does not count, where the metric is undefined on all of
    its examples at a budget. `undefined`: number of nan values, which the means under the curve leave out.
    """
    keys = group_keys(rows)
    long = rows.melt([*keys, "epsilon", "seed"], list(metrics), var_name="metric", value_name="value")
    means = _seed_means(long, [*keys, "epsilon", "metric"])
    frame = _areas_by_seed(means, [*keys, "metric", "seed"], include_zero)
    missing = long.assign(undefined=long["value"].isna()).groupby([*keys, "metric"], dropna=False)["undefined"].sum()
    found = intervals(frame, [*keys, "metric", "how"], "area", confidence)
    return found.merge(missing.reset_index(), on=[*keys, "metric"])


def _areas_by_seed(means: pd.DataFrame, by: Sequence[str], include_zero: bool) -> pd.DataFrame:
    """One row per (`by`, how) with `area`. Curves with as many budgets are taken together if the budgets are the same."""
    curve = means.groupby(list(by), sort=False, dropna=False, observed=True).ngroup().to_numpy()
    order = np.argsort(curve, kind="stable")
    counts = np.bincount(curve)
    ends = np.cumsum(counts)
    budgets, values = means["epsilon"].to_numpy()[order], means["value"].to_numpy()[order]
    alike: dict[tuple[float, ...], list[int]] = {}
    for index, (start, end) in enumerate(zip(ends - counts, ends, strict=True)):
        alike.setdefault(tuple(budgets[start:end]), []).append(index)
    found = np.empty((len(counts), len(AREA_KINDS)))
    for grid, members in alike.items():
        heights = np.stack([values[ends[index] - counts[index] : ends[index]] for index in members])
        for place, how in enumerate(AREA_KINDS):
            found[members, place] = areas_under_curves(grid, heights, how, include_zero)
    first = means.loc[~means.duplicated(list(by)), list(by)]
    frame = first.loc[first.index.repeat(len(AREA_KINDS))].reset_index(drop=True)
    return frame.assign(how=np.tile(np.array(AREA_KINDS, dtype=object), len(counts)), area=found.ravel())
