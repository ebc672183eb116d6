"""What all figures share: a grid of axes, one legend, and the bytes of PNG and SVG. No pyplot, no global state."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from runner.report.styles import Style

WIDTH = 10.0
"""Inches; a page shows it at about 1100 pixels."""
DPI = 150


def grid(count: int, columns: int, legend_rows: int, height: float = 2.05) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes in rows of `columns`, and room below the title for a legend."""
    rows = math.ceil(count / columns)
    width = WIDTH if columns > 1 else 0.62 * WIDTH
    figure = Figure(
        figsize=(width, height * rows + 0.5 + 0.19 * legend_rows),
        layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06),
    )
    axes = [figure.add_subplot(rows, columns, index + 1) for index in range(count)]
    return figure, axes


def legend_columns(names: Sequence[str], columns: int) -> int:
    """As many entries side by side as fit the figure's width."""
    inches = WIDTH if columns > 1 else 0.62 * WIDTH
    longest = max((len(name) for name in names), default=1)
    fitting = max(1, min(len(names), int(inches / (0.07 * longest + 0.55))))
    return math.ceil(len(names) / math.ceil(max(len(names), 1) / fitting))


def legend(figure: Figure, title: str, handles: Sequence[Line2D], columns: int) -> None:
    """The figure's title and one legend for all its axes, above them."""
    ncols = legend_columns([str(item.get_label()) for item in handles], columns)
    bold = {"weight": "bold", "size": 11}
    figure.legend(handles=handles, loc="outside upper center", ncols=ncols, title=title, title_fontproperties=bold)


def legend_rows(names: Sequence[str], columns: int) -> int:
    """Lines that the legend of these names takes."""
    return math.ceil(len(names) / max(legend_columns(names, columns), 1))


def handles(names: Sequence[str], looks: Mapping[str, Style], points: bool = False) -> list[Line2D]:
    """Legend entries as the defenses are drawn; `points` for a scatter, which has no lines."""
    return [_handle(name, looks[name], points) for name in names]


def _handle(name: str, look: Style, points: bool) -> Line2D:
    marker = look.marker if points or not look.dense else ""
    line: Any = "" if points else look.linestyle
    return Line2D([], [], color=look.color, linestyle=line, marker=marker, markersize=6 if points else 5, label=name)


def png(figure: Figure) -> bytes:
    """The figure as PNG; its layout is then fixed, so that an SVG of it need not be laid out again."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    figure.set_layout_engine("none")
    return buffer.getvalue()


def svg(figure: Figure) -> bytes:
    """The figure as SVG, the same bytes for the same numbers."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    return buffer.getvalue()
