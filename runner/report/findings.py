"""Sentences of the page: what was measured, how many seeds there are, and which defense is best in each panel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from runner.report.analysis import Analysis, robustness_column
from runner.report.data import select
from runner.report.naming import in_order, setting_title
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
    """For each panel: the defense with the best mean, and the defenses that the intervals do not separate from it."""
    sentences = []
    for setting in analysis.settings:
        for panel, rows in analysis.panels(setting):
            known = rows[rows["n_seeds"] > 0]
            sentences += [_finding(analysis, panel, known)] if len(known) > 1 else []
    return [sentence for sentence in sentences if sentence][:MAX_FINDINGS]


def _finding(analysis: Analysis, panel: Mapping[str, str], rows: pd.DataFrame) -> str:
    info = analysis.data.metrics[analysis.primary(panel)]
    key, meaning = robustness_column(rows, info.name)
    column = Column(key, info.name, info.direction)
    values = dict(zip(rows["series"], column_values(rows, column, decimals(rows, column)), strict=True))
    best = [f"{name} ({value.text})" for name, value in values.items() if value.best]
    if not best:
        return ""
    ties = [name for name, value in values.items() if value.tie]
    apart = f"not separable from it: {', '.join(ties)}" if ties else "separable from all others"
    where = f"{panel['attribution']} under {panel['attack']}"
    if len(analysis.settings) > 1:
        where += f" ({setting_title(panel)})"
    have = "have" if len(best) > 1 else "has"
    return f"{where}: {' and '.join(best)} {have} the best mean {info.title} ({meaning}); {apart}."
