"""The summary: one table per setting, a block per attribution and attack, a row per defense."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import pandas as pd

from runner.report.analysis import Analysis
from runner.report.naming import setting_title, words
from runner.report.tables.values import DASH, NBSP, Column, Value, column_values, decimals

CRITICAL = "topk_intersection"
"""The metric whose critical radius gets a column, if a run has it; `critical.csv` holds those of all bounded metrics."""

FLAG = "⚑"

LEGEND = (
    f"Mean ± half the 95 % interval over training seeds (Student-t); {DASH}: no interval (one seed), or no mean (not "
    "measured, or undefined for all examples). "
    "Bold: best mean among the defenses; ≈: its interval overlaps that of the best mean, or is unknown. "
    "ε50: budget at which the metric of the median example falls to one half; >: at least half of the examples never do in at "
    "least one seed, so only a lower bound is known. "
    f"{FLAG}: its runs raised a flag; the page and summary.csv name it."
)


@dataclass(frozen=True)
class Block:
    """Rows that are compared with each other: the names of the curves and their values, column by column."""

    attribution: str
    attack: str
    series: list[str]
    rows: list[list[Value]]
    flags: list[str]
    """Names of the flags of each row; empty for none."""

    @property
    def marked(self) -> list[str]:
        """The names of the curves, marked where there are flags."""
        return [f"{name} {FLAG}" if flags else name for name, flags in zip(self.series, self.flags, strict=True)]


@dataclass(frozen=True)
class Table:
    """The summary of one setting."""

    setting: dict[str, str]
    columns: list[Column]
    blocks: list[Block]

    @property
    def title(self) -> str:
        """Dataset, model and norm."""
        return setting_title(self.setting)

    @property
    def groups(self) -> list[tuple[str, int]]:
        """(shared heading, number of columns) from left to right."""
        return [(name, len(list(members))) for name, members in groupby(column.group for column in self.columns)]


def summary_tables(analysis: Analysis) -> list[Table]:
    """One table per (dataset, model, norm)."""
    return [_table(analysis, setting) for setting in analysis.settings]


def _table(analysis: Analysis, setting: dict[str, str]) -> Table:
    panels = analysis.panels(setting)
    columns = _columns(analysis, setting, [panel for panel, _ in panels])
    everything = pd.concat([rows for _, rows in panels])
    places = {column.key: decimals(everything, column) for column in columns}
    blocks = []
    for panel, rows in panels:
        by_column = [column_values(rows, column, places[column.key]) for column in columns]
        values = [list(row) for row in zip(*by_column, strict=True)]
        blocks.append(Block(panel["attribution"], panel["attack"], list(rows["series"]), values, list(rows["flags"])))
    return Table(setting, columns, blocks)


def _columns(analysis: Analysis, setting: Mapping[str, str], panels: Sequence[Mapping[str, str]]) -> list[Column]:
    metrics = analysis.data.metrics
    columns = [Column("test_accuracy", "test accuracy, %", "higher", 100.0)]
    for info in metrics.values():
        title = words(info.name) + (f", {info.unit}" if info.unit else "")
        columns.append(Column(f"area_{info.name}", title, info.direction, group="mean over the budgets (area, range)"))
    if CRITICAL in metrics:
        group = f"{words(CRITICAL)} halved, median ε"
        columns.append(Column(f"epsilon50_{CRITICAL}", "ε50", "higher", group=group))
    for name in dict.fromkeys(analysis.primary(panel) for panel in panels):
        for epsilon in analysis.budgets(setting):
            direction = metrics[name].direction if epsilon > 0 else ""
            group = f"{words(name)} at one budget"
            columns.append(Column(f"{name}@{epsilon:g}", _budget_heading(epsilon), direction, group=group))
    columns.append(Column("unharmed", "unharmed, %", scale=100.0, interval=False, places=1))
    columns.append(Column("seconds_per_epoch", "s / epoch"))
    columns.append(Column("n_seeds", "seeds", interval=False))
    return [*columns, Column("failed", "failed", interval=False)]


def _budget_heading(epsilon: float) -> str:
    if epsilon == 0:
        return f"noise floor, ε{NBSP}={NBSP}0"
    return "no budget" if math.isinf(epsilon) else f"ε{NBSP}={NBSP}{epsilon:g}"
