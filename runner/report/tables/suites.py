"""The page's table of attack suites: a row per configuration, at its largest budget."""

from __future__ import annotations

import pandas as pd

from runner.report.data import PANEL
from runner.report.naming import setting_title, words
from runner.report.tables.values import DASH, show

CONFIGURATION = (*PANEL, "series", "metric")


def suite_table(members: pd.DataFrame) -> list[dict[str, str]]:
    """`Analysis.suites` as text: the suite, and for each member the metric under it alone with its share of wins."""
    groups = members.groupby(list(CONFIGURATION), sort=False) if len(members) else ()
    rows = [_row(dict(zip(CONFIGURATION, map(str, key), strict=True)), group) for key, group in groups]
    titles = dict.fromkeys(title for row in rows for title in row)
    return [{title: row.get(title, DASH) for title in titles} for row in rows]


def _row(labels: dict[str, str], group: pd.DataFrame) -> dict[str, str]:
    last = group[group["epsilon"] == group["epsilon"].max()]
    members = {
        words(record["member"]): f"{show(record['alone'], '.3f')} · {100 * record['won']:.0f} %"
        for record in last.to_dict("records")
    }
    return {
        "defense": labels["series"],
        "configuration": f"{labels['attribution']} · {setting_title(labels)}",
        "metric": f"{words(labels['metric'])} at ε = {last['epsilon'].iloc[0]:g}",
        "suite": show(last["suite"].iloc[0], ".3f"),
        **members,
    }
