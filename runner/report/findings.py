"""Sentences of the page: what was measured, how many seeds there are, and what each panel shows about its defenses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from runner.report.analysis import Analysis, robustness_column
from runner.report.comparisons import LEVEL, overall
from runner.report.data import select
from runner.report.naming import in_order, setting_title
from runner.report.tables.comparisons import signed
from runner.report.tables.values import Column, column_values, decimals

MAX_FINDINGS = 12
MAX_LISTED = 6
"""Longer lists of names are counted instead."""


def describe(analysis: Analysis) -> str:
    """What was measured, in a sentence or two."""
    data = analysis.data
    if not len(data.runs):
        return f"None of the {len(data.failures)} runs finished."
    defenses, attributions, attacks = (
        _listed(key, in_order(map(str, data.runs[key]))) for key in ("defense", "attribution", "attack")
    )
    where = " and ".join(dict.fromkeys(f"{setting['dataset']} / {setting['model']}" for setting in analysis.settings))
    budgets = "; ".join(_budgets(analysis, setting) for setting in analysis.settings)
    examples = sorted({int(number) for number in analysis.table["n_examples"].dropna()})
    seeds = data.runs["seed"].nunique()
    return (
        f"How far the attribution maps of {where} move under attack: {defenses}, {attributions}, {attacks}; {budgets}; "
        f"{' or '.join(map(str, examples))} test images; {seeds} training {'seed' if seeds == 1 else 'seeds'}. "
        f"{len(data.runs)} runs finished, {len(data.failures)} did not."
    )


def _listed(noun: str, names: Sequence[str]) -> str:
    if len(names) > MAX_LISTED:
        return f"{len(names)} {noun}s"
    return f"{noun}{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _budgets(analysis: Analysis, setting: Mapping[str, str]) -> str:
    grid = sorted(select(analysis.curves, setting)["epsilon"].unique())
    finite = [epsilon for epsilon in grid if math.isfinite(epsilon)]
    span = f"{len(finite)} {setting['norm']} budgets from {finite[0]:g} to {finite[-1]:g}"
    span = span if len(finite) > 1 else f"{setting['norm']} budget {finite[0]:g}"
    return span + (", and without a budget" if len(finite) < len(grid) else "")


def seed_note(analysis: Analysis) -> str:
    """A warning about intervals over few seeds; empty if every configuration has three seeds or more."""
    counts = analysis.table["n_seeds"][analysis.table["n_seeds"] > 0]
    if counts.empty:
        return ""
    if counts.max() == 1:
        return (
            "Each configuration has one training seed, so there are no intervals over seeds; differences may be chance."
        )
    if counts.min() <= 2:
        return (
            "Some configurations have two seeds or fewer. With two, the 95 % interval reaches 12.7 standard errors to each "
            "side and few differences can be told from chance; bands and error bars may run off the axes."
        )
    return ""


def findings(analysis: Analysis) -> list[str]:
    """For each panel: the paired differences from natural training; without any, the best mean and those that tie with it."""
    sentences = []
    for setting in analysis.settings:
        for panel, rows in analysis.panels(setting):
            known = rows[rows["n_seeds"] > 0]
            if len(known) > 1:
                sentences.append(_compared(analysis, panel, known) or _best(analysis, panel, known))
    return [sentence for sentence in sentences if sentence][:MAX_FINDINGS]


def _compared(analysis: Analysis, panel: Mapping[str, str], rows: pd.DataFrame) -> str:
    """Which defenses are more robust than natural training, which less, and which show no difference."""
    info = analysis.data.metrics[analysis.primary(panel)]
    found = select(overall(analysis.comparisons), {**panel, "metric": info.name})
    found = found.assign(gain=found["mean"] * (1.0 if info.direction == "higher" else -1.0))
    if not found["p_holm"].notna().any():
        return ""
    _, meaning = robustness_column(rows, info.name)
    shown = found["p_holm"] < LEVEL
    groups = {
        "more robust": found[shown & (found["gain"] > 0)].sort_values("gain", ascending=False),
        "less robust": found[shown & (found["gain"] < 0)].sort_values("gain"),
        "no difference shown": found[~shown],
    }
    parts = [f"{says}: {', '.join(_differences(group))}" for says, group in groups.items() if len(group)]
    where = f"{_where(analysis, panel)}, compared with natural training on the same images and seeds"
    return f"{where} ({info.title}, {meaning}; 95 % intervals, p < {LEVEL} after Holm): {'; '.join(parts)}."


def _differences(rows: pd.DataFrame) -> list[str]:
    return [f"{row['series']} ({signed(row)})" for row in rows.to_dict("records")]


def _where(analysis: Analysis, panel: Mapping[str, str]) -> str:
    where = f"{panel['attribution']} under {panel['attack']}"
    return f"{where} ({setting_title(panel)})" if len(analysis.settings) > 1 else where


def _best(analysis: Analysis, panel: Mapping[str, str], rows: pd.DataFrame) -> str:
    info = analysis.data.metrics[analysis.primary(panel)]
    key, meaning = robustness_column(rows, info.name)
    column = Column(key, info.name, info.direction)
    values = dict(zip(rows["series"], column_values(rows, column, decimals(rows, column)), strict=True))
    best = [f"{name} ({value.text})" for name, value in values.items() if value.best]
    if not best:
        return ""
    ties = [name for name, value in values.items() if value.tie]
    apart = f"not separable from it: {', '.join(ties)}" if ties else "separable from all others"
    have = "have" if len(best) > 1 else "has"
    return f"{_where(analysis, panel)}: {' and '.join(best)} {have} the best mean {info.title} ({meaning}); {apart}."
