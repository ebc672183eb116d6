"""Flags that runs raised: reasons not to trust their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from runner.core.flags import raised
from runner.report.data import ReportData
from runner.report.naming import words

MAX_NAMED = 6
"""Longer lists of configurations are counted."""


def flags_of(runs: pd.DataFrame) -> dict[str, list[Mapping[Any, Any]]]:
    """Name -> the flags of that name that the runs raised, each with its seed."""
    found: dict[str, list[Mapping[Any, Any]]] = {}
    for run in runs[runs["flags"].notna()].to_dict("records") if "flags" in runs else ():
        for name in raised(run["flags"]):
            found.setdefault(name, []).append({**run["flags"][name], "seed": run["seed"]})
    return found


def doubts(data: ReportData) -> list[str]:
    """A sentence for every flag that any run raised, with the configurations, seeds and budgets."""
    says: dict[str, str] = {}
    where: dict[str, list[str]] = {}
    for group_id, runs in data.runs.groupby("group_id", sort=False) if len(data.runs) else ():
        for name, flags in flags_of(runs).items():
            says.setdefault(name, f"{words(name)}: {flags[0]['says']}")
            where.setdefault(name, []).append(_configuration(data.labels(str(group_id)), flags))
    return [f"{text}. {_listed(where[name])}" for name, text in says.items()]


def _configuration(labels: Mapping[str, str], flags: list[Mapping[Any, Any]]) -> str:
    seeds = ", ".join(f"{flag['seed']:g}" for flag in flags)
    budgets = ", ".join(f"{epsilon:g}" for epsilon in sorted({value for flag in flags for value in flag["epsilons"]}))
    at = f"seed {seeds}; ε {budgets}" if budgets else f"seed {seeds}"
    return f"{labels['series']} · {labels['attribution']}, {labels['attack']} ({at})"


def _listed(places: list[str]) -> str:
    more = f" and {len(places) - MAX_NAMED} more" if len(places) > MAX_NAMED else ""
    return "; ".join(places[:MAX_NAMED]) + more
