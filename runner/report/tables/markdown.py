"""The summary as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from runner.report.tables.summary import LEGEND, Table
from runner.report.tables.values import NBSP, Value


def markdown(tables: Sequence[Table], title: str) -> str:
    """One section per setting."""
    parts = [f"# {title}", LEGEND]
    for table in tables:
        parts += [f"## {table.title}", _frame(table).to_markdown(index=False).replace(NBSP, " ")]
    return "\n\n".join(parts) + "\n"


def _frame(table: Table) -> pd.DataFrame:
    records = [
        [series, block.attribution, block.attack, *map(_text, values)]
        for block in table.blocks
        for series, values in zip(block.marked, block.rows, strict=True)
    ]
    headings = [f"{column.group}: {column.heading}" if column.group else column.heading for column in table.columns]
    return pd.DataFrame(records, columns=["defense", "attribution", "attack", *headings])


def _text(value: Value) -> str:
    return f"**{value.text}**" if value.best else value.plain
