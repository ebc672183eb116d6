"""The page's table of transferred attacks: a row per entry of a transfer matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from runner.report.naming import budget_phrase, words
from runner.report.tables.values import DASH, show
from runner.report.transfers import WHITE_BOX


def transfer_table(entries: pd.DataFrame) -> list[dict[str, str]]:
    """`Analysis.transfers` as text, by heading."""
    return [_row(record) for record in entries.to_dict("records")]


def _row(record: Mapping[Any, Any]) -> dict[str, str]:
    mark = f" ({WHITE_BOX})" if record["white_box"] and record["optimised_on"] != WHITE_BOX else ""
    return {
        "optimised on": f"{record['optimised_on']}{mark}",
        "scored on": str(record["scored_on"]),
        "both": f"{record['where']} · {record['dataset']}, {record['norm']}",
        "attack": str(record["attack"]),
        "metric": f"{words(record['metric'])} {budget_phrase(record['epsilon'])}",
        "mean": _with_interval(record, "value", 1.0, ".3f"),
        "transfer gap, %": _with_interval(record, "gap", 100.0, ".1f"),
        "cosine of the clean maps": show(record["map_cosine"], ".3f"),
        "same prediction, %": show(100 * record["same_prediction"], ".1f"),
        "harmed, %": show(100 * record["found"], ".1f"),
        "seeds": str(record["n_seeds"]),
    }


def _with_interval(record: Mapping[Any, Any], name: str, scale: float, form: str) -> str:
    mean = show(scale * record[name], form)
    half = show(scale * (record[f"{name}_high"] - record[f"{name}_low"]) / 2.0, form)
    return mean if half == DASH else f"{mean} ± {half}"
