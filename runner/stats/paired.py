"""Two configurations on the same images, training seeds and attack draws: is their difference more than chance?

The cluster is the training seed, everywhere: the examples of one seed share a network and are not independent. Differences are
taken example by example, averaged within each seed, and tested over the seeds. Pairing removes what a seed's images do to both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise, product

import numpy as np
import pandas as pd

from runner.stats.curves import area_under_curve

AREA = math.nan
"""The `epsilon` of a difference of areas (`range`: means over the budgets)."""
MAX_EXACT = 16
"""Sign flips of more seeds than this are drawn (2^16 of them), not enumerated."""
MAX_SEEDS = 1000
_STAGES = (2, 10, 50, 250, MAX_SEEDS + 1)
_PAIR = ["seed", "example_id", "epsilon"]


def differences(
    rows: pd.DataFrame, pairs: Mapping[str, str], metrics: Sequence[str], confidence: float = 0.95
) -> pd.DataFrame:
    """Compare each group_id of `pairs` with its baseline: one row per (group_id, metric, epsilon), and one for the area.

    `rows` hold group_id, seed, example_id, epsilon and the metrics. Columns: group_id, baseline, metric, epsilon (nan: the area, of
    kind `range`, over the budgets of both), those of `over_seeds`, and n_pairs (of values that are defined in both, over all
    seeds; nan for areas). A difference is that of the group minus that of its baseline.
    Errors: `pandas.errors.MergeError` if a baseline has two rows for one example, seed and budget.
    """
    names = list(metrics)
    ours = rows[rows["group_id"].isin(list(pairs))]
    ours = ours.assign(baseline=ours["group_id"].map(pairs))[["group_id", "baseline", *_PAIR, *names]]
    theirs = rows[["group_id", *_PAIR, *names]].rename(columns={"group_id": "baseline"})
    both = ours.merge(theirs, on=["baseline", *_PAIR], suffixes=("", " of the baseline"), validate="many_to_one")
    both[names] = both[names].to_numpy() - both[[f"{name} of the baseline" for name in names]].to_numpy()
    by_seed = both.melt(["group_id", "baseline", "epsilon", "seed"], names, var_name="metric").groupby(
        ["group_id", "baseline", "metric", "epsilon", "seed"], sort=False
    )["value"]
    means, counts = by_seed.mean().unstack("seed"), by_seed.count().unstack("seed").sum(axis=1)
    keys = ["group_id", "baseline", "metric"]
    areas = means.groupby(keys, sort=False).agg(_area)
    areas = areas.assign(epsilon=AREA).set_index("epsilon", append=True)
    tables = [over_seeds(table, confidence) for table in (means, areas)]
    tables[0]["n_pairs"] = counts
    return pd.concat(tables).reset_index()


def over_seeds(values: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """The paired tests of mean differences `values`, one column per seed (nan: this seed has none); all two-sided.

    Columns: mean; low, high (Student-t with n - 1 degrees of freedom); n_seeds; p (Student-t); p_sign_flip (exact, over all signs
    of the seeds' differences: it assumes nothing of their distribution, and is never below 2 / 2^n). nan with fewer than two seeds.
    Errors: `ValueError` for a confidence outside (0, 1).
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence}: must be between 0 and 1")
    from scipy.special import stdtr, stdtrit  # late: not needed where a run is finished

    array = values.to_numpy(np.float64)
    n = (~np.isnan(array)).sum(axis=1)
    mean = values.mean(axis=1).to_numpy()
    degrees = np.where(n > 1, n - 1.0, np.nan)
    error = values.std(axis=1, ddof=1).to_numpy() / np.sqrt(n)
    half = stdtrit(degrees, 0.5 + confidence / 2.0) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where((error == 0) & (mean == 0), 1.0, 2.0 * stdtr(degrees, -np.abs(mean) / error))
    flips = [_sign_flip(row[~np.isnan(row)]) for row in array]
    found = {"mean": mean, "low": mean - half, "high": mean + half, "n_seeds": n, "p": p, "p_sign_flip": flips}
    return pd.DataFrame(found, index=values.index)


def holm(values: Sequence[float] | np.ndarray | pd.Series) -> np.ndarray:
    """p-values adjusted for all of them being read (Holm 1979): at least the raw ones, at most 1; nan stays nan, uncounted."""
    raw = np.asarray(values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(raw))
    order = known[np.argsort(raw[known], kind="stable")]
    adjusted = np.full(raw.shape, np.nan)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(raw[order] * np.arange(len(order), 0, -1)))
    return adjusted


def seeds_needed(mean: float, spread: float, level: float, power: float = 0.8) -> float:
    """The fewest seeds at which a two-sided paired t-test of this level finds a difference `mean` with this power.

    `spread`: its standard deviation over seeds. By the noncentral t distribution. nan if either is nan or the mean is 0;
    inf above `MAX_SEEDS`.
    """
    if math.isnan(mean) or math.isnan(spread) or mean == 0.0:
        return math.nan
    from scipy.special import nctdtr, stdtrit  # late: not needed where a run is finished

    for first, last in pairwise(_STAGES):  # most need few, and the power of a thousand takes long
        seeds = np.arange(first, last, dtype=np.float64)
        critical = stdtrit(seeds - 1, 1.0 - level / 2.0)
        shift = np.minimum(abs(mean) / max(spread, 1e-300) * np.sqrt(seeds), 1e3)
        reached = 1.0 - nctdtr(seeds - 1, shift, critical) + nctdtr(seeds - 1, shift, -critical)
        enough = np.flatnonzero(np.where(shift > 30 + critical, 1.0, reached) >= power)  # there, nctdtr gives nan
        if len(enough):
            return float(seeds[enough[0]])
    return math.inf


def _area(curve: pd.Series) -> float:
    return area_under_curve(curve.index.get_level_values("epsilon").to_numpy(), curve.to_numpy())


def _sign_flip(values: np.ndarray) -> float:
    n = len(values)
    if n < 2:
        return math.nan
    if n <= MAX_EXACT:
        signs = np.array(list(product((1.0, -1.0), repeat=n)))
    else:
        signs = np.random.default_rng(0).choice((1.0, -1.0), (2**MAX_EXACT, n))
        signs[0] = 1.0
    sums = np.abs(signs @ values)
    return float((sums >= sums[0] * (1.0 - 1e-12)).mean())
