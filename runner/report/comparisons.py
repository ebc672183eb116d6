"""Each defense against natural training, on the same images and training seeds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from runner.report.data import IDENTITY, PANEL, SETTING, ReportData
from runner.report.naming import is_undefended
from runner.stats import AREA, differences, holm, over_seeds, seeds_needed

ACCURACY = "test_accuracy"
LEVEL = 0.05
NUMBERS = ("epsilon", "mean", "low", "high", "n_seeds", "p", "p_sign_flip", "n_pairs", "p_holm", "seeds_needed")


def baselines(data: ReportData) -> dict[str, str]:
    """group_id -> group_id of natural training in its panel, for all finished configurations of panels that have exactly one."""
    if not len(data.runs):
        return {}
    finished = data.runs.drop_duplicates("group_id")
    pairs: dict[str, str] = {}
    for _, rows in finished.groupby(list(PANEL), sort=False):
        natural = [name for name in rows["group_id"] if is_undefended(data.names[name])]
        if len(natural) == 1:
            pairs |= {name: natural[0] for name in rows["group_id"] if name != natural[0]}
    return pairs


def comparisons(data: ReportData) -> pd.DataFrame:
    """`runner.stats.differences` of all metrics and of the test accuracy, with the identity of the configuration and `series`.

    Epsilon is nan for areas and for accuracies. Those rows, and those without a budget, also have `p_holm`: `p` adjusted for all
    configurations of the setting, as one table is read as a whole; and `seeds_needed` to find a difference of this size and spread
    at the strictest of those levels.
    """
    pairs = baselines(data)
    if not pairs:
        return pd.DataFrame(columns=[*IDENTITY, "series", "baseline", "metric", *NUMBERS]).astype(
            dict.fromkeys(NUMBERS, float)
        )
    rows = data.rows.assign(group_id=data.rows["group_id"].astype("str"))  # a category would keep all configurations
    found = pd.concat([differences(rows, pairs, list(data.metrics)), _accuracies(data, pairs)], ignore_index=True)
    identity = data.runs.drop_duplicates("group_id")[list(IDENTITY)]
    found = identity.merge(found, on="group_id").assign(series=lambda frame: frame["group_id"].map(data.names))
    whole = found[~np.isfinite(found["epsilon"])]
    for _, rows in whole.groupby([*SETTING, "metric", "epsilon"], sort=False, dropna=False):
        adjusted = rows.assign(p_holm=holm(rows["p"]), seeds_needed=_needed(rows, LEVEL / len(rows)))
        found = found.reindex(columns=adjusted.columns)
        found.loc[rows.index] = adjusted
    return found


def overall(found: pd.DataFrame) -> pd.DataFrame:
    """The row of each configuration and metric that stands for all budgets: the area, or else the attack without a budget."""
    whole = found[~np.isfinite(found["epsilon"])]
    ordered = whole.assign(unknown=whole["mean"].isna()).sort_values(["unknown", "epsilon"], na_position="first")
    first: pd.DataFrame = ordered.drop_duplicates(["group_id", "metric"]).drop(columns="unknown")
    return first


def _accuracies(data: ReportData, pairs: Mapping[str, str]) -> pd.DataFrame:
    """Differences of the test accuracy, in the form of `differences`."""
    accuracy = data.runs.drop_duplicates(["group_id", "seed"]).pivot(index="group_id", columns="seed", values=ACCURACY)
    ours, theirs = accuracy.loc[list(pairs)], accuracy.loc[list(pairs.values())]
    found = over_seeds(ours - theirs.to_numpy()).reset_index()
    return found.assign(baseline=list(pairs.values()), metric=ACCURACY, epsilon=AREA)


def _needed(rows: pd.DataFrame, level: float) -> list[float]:
    """`seeds_needed` of each row, from its interval: half its width is t * spread / sqrt(n)."""
    from scipy.special import stdtrit  # late: not needed where a run is finished

    n = rows["n_seeds"].to_numpy(dtype=float)
    with np.errstate(invalid="ignore"):
        t = stdtrit(np.where(n > 1, n - 1, np.nan), 1.0 - LEVEL / 2.0)
    spread = (rows["high"] - rows["low"]) / 2.0 * np.sqrt(n) / t
    return [seeds_needed(mean, sd, level) for mean, sd in zip(rows["mean"], spread, strict=True)]
