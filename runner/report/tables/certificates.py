"""The page's table of certificates: a row per configuration and budget."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from runner.report.data import PANEL
from runner.report.tables.values import show
from runner.stats.claims import BOUND


def certificate_table(bands: pd.DataFrame) -> list[dict[str, str]]:
    """`Analysis.bands` as text, by heading."""
    return [_row(record) for record in bands.to_dict("records")]


def _row(record: Mapping[Any, Any]) -> dict[str, str]:
    beyond = f"{int(record['violations'])} of {int(record['examples'])}"
    beyond += f", {int(record['undefined'])} undefined" if record["undefined"] else ""
    if not record["estimate"]:
        beyond += f" (at most {record['expected']:.3g} expected)"
    notes = [
        f"{str(name).removeprefix(f'{BOUND}_')} {value:.3g}"
        for name, value in record.items()
        if str(name).startswith(f"{BOUND}_") and not math.isnan(value)
    ]
    return {
        "defense": str(record["series"]),
        "attribution, attack": ", ".join(str(record[key]) for key in PANEL[3:]),
        "bound": f"{record['bound']}{' (estimate)' if record['estimate'] else ''}",
        "metric": str(record["metric"]),
        "ε": f"{record['epsilon']:g}",
        "mean bound": _mean(record[BOUND]),
        "mean under this attack": _mean(record["attacked"]),
        "under the strongest attack": _mean(record["strongest"]),
        "examples beyond": beyond,
        "notes": "; ".join(notes),
    }


def _mean(value: float) -> str:
    return "no bound" if math.isinf(value) else show(value, ".3g")
