"""Attack suites: the harm that each member does alone, and its share of wins."""

from __future__ import annotations

import pandas as pd

from runner.report.data import ReportData

HARM = "attack_harm"
WON = "attack_won"


def suite_members(data: ReportData) -> pd.DataFrame:
    """One row per (configuration with a suite, epsilon above 0, member); empty without suites.

    Columns: epsilon; alone (the metric under that member alone) and suite (under all of them), both with the attack's own
    random draws; won (share of examples); member, role, the panel, series, metric, n_seeds. Means are over the examples of
    each seed, then over seeds.
    """
    if "suite" not in data.runs:
        return pd.DataFrame()
    groups = data.runs[data.runs["suite"].notna()].groupby("group_id", sort=False)
    return pd.concat([_members(data, str(group_id), runs) for group_id, runs in groups], ignore_index=True)


def _members(data: ReportData, group_id: str, runs: pd.DataFrame) -> pd.DataFrame:
    first = runs.iloc[0]
    metric = data.metrics[first["kept_by"]]
    sign = -1.0 if metric.direction == "higher" else 1.0
    rows = data.rows[data.rows["run_id"].isin(runs["run_id"])]
    labels = {**data.labels(group_id), "metric": metric.name}
    frames = []
    for number, (member, role) in enumerate(first["suite"]["members"].items()):
        values = rows[["epsilon", "seed"]].assign(
            alone=sign * rows[f"{HARM}_{member}"], suite=sign * rows[HARM], won=(rows[WON] == number).astype(float)
        )
        means = values.groupby(["epsilon", "seed"]).mean().groupby("epsilon").mean().reset_index()
        frames.append(means[means["epsilon"] > 0].assign(member=member, role=role, **labels, n_seeds=len(runs)))
    return pd.concat(frames, ignore_index=True)
