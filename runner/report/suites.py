"""Attack suites in the report: what each member found alone, who won, and the flags that were raised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from runner.report.analysis import Analysis
from runner.report.load import PANEL
from runner.report.tables import DASH

HARM = "attack_harm"
WON = "attack_won"
LABELS = (*PANEL, "series", "metric")


def suites(analysis: Analysis) -> pd.DataFrame:
    """One row per (cell with a suite, epsilon above 0, member); empty without suites.

    Columns: `LABELS`, epsilon, member, role, alone (the metric under that member alone), suite (under all of them), both by the
    attack's own draws; won (share of examples), n_seeds. Means are over the examples of each seed, then over seeds.
    """
    runs = analysis.data.runs
    told = runs[runs["suite"].notna()] if "suite" in runs else runs[:0]
    frames = [_cell(analysis, group) for _, group in told.groupby("group_id", sort=False)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _cell(analysis: Analysis, runs: pd.DataFrame) -> pd.DataFrame:
    first = runs.iloc[0]
    members, metric = first["suite"]["members"], analysis.data.metrics[first["kept_by"]]
    sign = -1.0 if metric.direction == "higher" else 1.0
    rows = analysis.data.rows[analysis.data.rows["run_id"].isin(runs["run_id"])]
    labels = {key: str(first[key]) for key in PANEL}
    labels |= {"series": analysis.data.names[first["group_id"]], "metric": metric.name}
    frames = []
    for number, (member, role) in enumerate(members.items()):
        values = rows[["epsilon", "seed"]].assign(
            alone=sign * rows[f"{HARM}_{member}"], suite=sign * rows[HARM], won=(rows[WON] == number).astype(float)
        )
        means = values.groupby(["epsilon", "seed"]).mean().groupby("epsilon").mean().reset_index()
        frames.append(means[means["epsilon"] > 0].assign(member=member, role=role, **labels, n_seeds=len(runs)))
    return pd.concat(frames, ignore_index=True)


def suite_table(frame: pd.DataFrame) -> list[dict[str, str]]:
    """A row per cell at its largest budget: the suite, and what each member finds alone with its share of wins."""
    if frame.empty:
        return []
    rows = []
    for key, cell in frame.groupby(list(LABELS), sort=False):
        labels = dict(zip(LABELS, map(str, key), strict=True))
        last = cell[cell["epsilon"] == cell["epsilon"].max()]
        told = {
            "defense": labels["series"],
            "cell": f"{labels['attribution']} · {labels['dataset']} / {labels['model']}, {labels['norm']}",
            "metric": f"{labels['metric'].replace('_', ' ')} at ε = {last['epsilon'].iloc[0]:g}",
            "suite": f"{last['suite'].iloc[0]:.3f}",
        }
        members = last.to_dict("records")
        rows.append(
            told | {_title(record): f"{record['alone']:.3f} · {100 * record['won']:.0f} %" for record in members}
        )
    titles = list(dict.fromkeys(title for row in rows for title in row))
    return [{title: row.get(title, DASH) for title in titles} for row in rows]


def _title(record: Mapping[Any, Any]) -> str:
    return str(record["member"]).replace("_", " ")


def doubts(analysis: Analysis) -> list[str]:
    """A sentence for every flag that a cell's suite raised, with the seeds on which it did."""
    runs = analysis.data.runs
    sentences = []
    for group_id, group in runs.groupby("group_id", sort=False) if "flags" in runs else ():
        raised: dict[str, list[Mapping[Any, Any]]] = {}
        for run in group[group["flags"].notna()].to_dict("records"):
            for name, flag in run["flags"].items():
                if flag["tripped"]:
                    raised.setdefault(name, []).append({**flag, "seed": run["seed"]})
        first = group.iloc[0]
        where = f"{analysis.data.names[str(group_id)]} · {first['attribution']}, {first['attack']}"
        sentences += [f"{where}: {_told(name, flags)}" for name, flags in raised.items()]
    return sentences


def _told(name: str, flags: list[Mapping[Any, Any]]) -> str:
    seeds = ", ".join(f"{flag['seed']:g}" for flag in flags)
    budgets = ", ".join(
        f"{epsilon:g}" for epsilon in sorted({epsilon for flag in flags for epsilon in flag["epsilons"]})
    )
    return f"{name.replace('_', ' ')}: {flags[0]['says']} (seed {seeds}; ε {budgets})"
