"""The page's table of differences from natural training: a row per defense, means over the budgets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from runner.report.analysis import Analysis
from runner.report.comparisons import ACCURACY, overall
from runner.report.data import select
from runner.report.naming import natural_key, setting_title
from runner.report.tables.values import DASH, show


def comparison_table(analysis: Analysis) -> list[dict[str, str]]:
    """Differences of the attacked metric's area and of the test accuracy, with p-values and the seeds that would be needed."""
    found = overall(analysis.comparisons)
    records = []
    for setting in analysis.settings:
        for panel, _ in analysis.panels(setting):
            rows = select(found, panel)
            for name in sorted(rows["series"].unique(), key=natural_key):
                of_metric = {row["metric"]: row for row in rows[rows["series"] == name].to_dict("records")}
                records.append(_record(panel, name, analysis, of_metric))
    return records


def _record(
    panel: Mapping[str, str], name: str, analysis: Analysis, of_metric: Mapping[str, Mapping[Any, Any]]
) -> dict[str, str]:
    info = analysis.data.metrics[analysis.primary(panel)]
    area = of_metric[info.name]
    return {
        "defense": name,
        "configuration": f"{panel['attribution']}, {panel['attack']} · {setting_title(panel)}",
        "metric": info.title,
        "difference": signed(area),
        "p (Holm)": p_value(area["p_holm"]),
        "p (sign flips)": p_value(area["p_sign_flip"]),
        "seeds": f"{area['n_seeds']:g}",
        "seeds needed": _count(area["seeds_needed"]),
        "difference of accuracy, points": signed(of_metric[ACCURACY], 100.0, 1),
    }


def signed(row: Mapping[Any, Any], scale: float = 1.0, places: int = 3) -> str:
    """Difference ± half its interval: '+0.120 ± 0.031'."""
    half = (row["high"] - row["low"]) / 2.0 * scale
    return f"{show(row['mean'] * scale, f'+.{places}f')} ± {show(half, f'.{places}f')}"


def p_value(p: float) -> str:
    """A p-value with two digits, and a bound below 0.001."""
    return DASH if pd.isna(p) else "< 0.001" if p < 0.001 else f"{p:.2g}"


def _count(seeds: float) -> str:
    return DASH if pd.isna(seeds) else "> 1000" if math.isinf(seeds) else f"{seeds:g}"
