"""The page's table of conditions: examples, success of the attack, labels, softplus twin, convergence and cost, failed seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from runner.report.naming import setting_title, words
from runner.report.tables.summary import CRITICAL
from runner.report.tables.values import show


def condition_table(table: pd.DataFrame) -> list[dict[str, str]]:
    """A row per configuration of `Analysis.table` that has a finished run, by heading."""
    return [_row(record) for record in table[table["n_seeds"] > 0].to_dict("records")]


def _row(record: Mapping[Any, Any]) -> dict[str, str]:
    return {
        "defense": record["series"],
        "configuration": f"{record['attribution']}, {record['attack']} · {setting_title(record)}",
        "images": str(int(record["n_examples"])),
        "unharmed at the largest ε, %": _percent(record["unharmed"]),
        "ε50 never reached, %": _percent(record.get(f"epsilon50_{CRITICAL}_never", math.nan)),
        "label kept, %": _percent(record["label_preserved"]),
        "softplus twin β": show(record["twin_beta"], ".3g"),
        "cosine of twin's map": show(record["twin_map_cosine"], ".3g"),
        "gain of the last doubling": show(record["convergence_gain"], ".3f"),
        "images judged": show(record["convergence_candidates"], ".0f"),
        "harm per 1,000": show(
            1000 * record["convergence_harm"] / (record["convergence_candidates"] or math.nan), ".3g"
        ),
        "undefined values": words(record["undefined_in"]) or "0",
        "failed": f"{int(record['failed'])} ({100 * record['failure_rate']:.0f} %)",
    }


def _percent(share: float) -> str:
    return show(100 * share, ".1f")
