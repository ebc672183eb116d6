"""The summary as LaTeX (booktabs)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from runner.report.tables.summary import LEGEND, Block, Table
from runner.report.tables.values import DASH, NBSP, Value

_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "ε": r"$\varepsilon$", "∞": r"$\infty$", "±": r"$\pm$",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "≈": r"$\approx$", "⚑": r"$\dagger$", ">": "$>$", DASH: "--",
    NBSP: "~",
}  # fmt: skip


def latex(tables: Sequence[Table], title: str) -> str:
    r"""One `table*` per setting; needs `\usepackage{booktabs}` and `\usepackage{graphicx}`."""
    return "\n".join([r"% needs \usepackage{booktabs} and \usepackage{graphicx}", *(_latex(t, title) for t in tables)])


def escape(text: str) -> str:
    """The text with LaTeX's special characters escaped."""
    return re.sub("|".join(map(re.escape, _ESCAPES)), lambda match: _ESCAPES[match.group()], text)


def _latex(table: Table, title: str) -> str:
    lines = [r"\begin{table*}", r"\centering", rf"\caption{{{escape(f'{title}: {table.title}. {LEGEND}')}}}"]
    lines += [rf"\resizebox{{\textwidth}}{{!}}{{\begin{{tabular}}{{l{'r' * len(table.columns)}}}", r"\toprule"]
    lines += _heading(table)
    for block in table.blocks:
        lines += _block(block, len(table.columns))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table*}", ""])


def _heading(table: Table) -> list[str]:
    groups, rules, first = [], [], 2
    for name, count in table.groups:
        groups.append(rf"\multicolumn{{{count}}}{{c}}{{{escape(name)}}}")
        rules += [rf"\cmidrule(lr){{{first}-{first + count - 1}}}"] if name else []
        first += count
    titles = " & ".join(["defense", *(escape(column.heading) for column in table.columns)])
    return [" & ".join(["", *groups]) + r" \\", " ".join(rules), titles + r" \\"]


def _block(block: Block, count: int) -> list[str]:
    title = escape(f"{block.attribution}, attack {block.attack}")
    lines = [r"\midrule", rf"\multicolumn{{{count + 1}}}{{l}}{{\emph{{{title}}}}} \\"]
    for series, values in zip(block.marked, block.rows, strict=True):
        lines.append(" & ".join([escape(series), *map(_text, values)]) + r" \\")
    return lines


def _text(value: Value) -> str:
    return rf"\textbf{{{escape(value.text)}}}" if value.best else escape(value.plain)
