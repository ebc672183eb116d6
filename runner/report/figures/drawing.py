"""What the figures share: axes, points with intervals, one legend, and the bytes of SVG. No pyplot, no global state."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from runner.report.figures.styles import Style
from runner.report.naming import setting_title

WIDTH = 10.0
"""Inches; the page shows it at about 1100 pixels."""
MAX_COLUMNS = 3


def grid(count: int, columns: int, legend_rows: int, height: float = 2.05) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes in rows of `columns`, and room below the title for a legend."""
    rows = math.ceil(count / columns)
    figure = empty_figure((_width(columns), height * rows + 0.5 + 0.19 * legend_rows), 0.08)
    return figure, [figure.add_subplot(rows, columns, index + 1) for index in range(count)]


def panels_figure(
    panels: Sequence[Mapping[str, str]], title: str, entries: Sequence[Line2D], xlabel: str, height: float
) -> tuple[Figure, list[Axes]]:
    """A figure with axes for each attribution and attack of a setting, named after them, below a legend with these entries."""
    columns = min(len(panels), MAX_COLUMNS)
    labels = [str(entry.get_label()) for entry in entries]
    figure, axes = grid(len(panels), columns, legend_rows(labels, columns), height)
    for axis, panel in zip(axes, panels, strict=True):
        axis.set_title(f"{panel['attribution']}, {panel['attack']} attack")
    for axis in axes[-columns:]:
        axis.set_xlabel(xlabel)
    legend(figure, f"{title} · {setting_title(panels[0])}", entries, columns)
    return figure, axes


def named_rows(names: Sequence[str], count: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes side by side that share rows of these names, the first name at the bottom."""
    figure = empty_figure(size, 0.06)
    axes = [figure.add_subplot(1, count, index + 1) for index in range(count)]
    for axis in axes:
        axis.set_ylim(-0.6, len(names) - 0.4)
        axis.set_yticks(range(len(names)), names if axis is axes[0] else [""] * len(names))
        axis.tick_params(axis="y", length=0)
    return figure, axes


def empty_figure(size: tuple[float, float], side_padding: float) -> Figure:
    """A figure of (width, height) inches that lays out its axes by itself; paddings are in inches."""
    return Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=side_padding, h_pad=0.06))


def draw_points(
    axis: Axes, places: np.ndarray, intervals: Sequence[np.ndarray], color: str, marker: str, **line: float
) -> None:
    """Means as points with horizontal lines for their intervals, given as (mean, low, high), at these heights."""
    mean, low, high = intervals
    axis.hlines(places, low, high, color=color, **line)  # type: ignore[arg-type]
    axis.plot(mean, places, marker, color=color, markersize=4.5, mec="white", mew=0.5, linestyle="")


def draw_bands(axis: Axes, bands: Sequence[np.ndarray], colors: Sequence[str], alpha: float) -> None:
    """Shaded intervals, each given as (3, N) values x, low and high, as one artist; points without an interval are left out."""
    outlines = []
    for x, low, high in bands:
        known = np.isfinite(low) & np.isfinite(high)
        up, down = np.stack([x, low])[:, known], np.stack([x, high])[:, known]
        outlines.append(np.concatenate([up, down[:, ::-1]], axis=1).T)
    axis.add_collection(PolyCollection(outlines, facecolors=colors, alpha=alpha, linewidths=0), autolim=True)


def say_undefined(axis: Axes) -> None:
    """Write into axes without points why there are none."""
    axis.text(0.5, 0.5, "undefined", transform=axis.transAxes, ha="center", va="center", color="#888888")


def legend(figure: Figure, title: str, handles: Sequence[Line2D], columns: int | None = None) -> None:
    """The figure's title and one legend for all its axes, above them; in one row, or as fits above `columns` axes."""
    names = [str(item.get_label()) for item in handles]
    ncols = len(names) if columns is None else _legend_columns(names, columns)
    bold = {"weight": "bold", "size": 11}
    figure.legend(handles=handles, loc="outside upper center", ncols=ncols, title=title, title_fontproperties=bold)


def legend_rows(names: Sequence[str], columns: int) -> int:
    """Number of lines in the legend of these names above `columns` axes."""
    return math.ceil(len(names) / max(_legend_columns(names, columns), 1))


def handles(names: Sequence[str], looks: Mapping[str, Style], points: bool = False) -> list[Line2D]:
    """Legend entries for the defenses; `points` for a figure without lines."""
    return [_handle(name, looks[name], points) for name in names]


def svg(figure: Figure) -> bytes:
    """The figure as SVG; the same numbers give the same bytes. It is drawn once; `savefig` draws twice to lay it out."""
    buffer = io.BytesIO()
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()


def label_edges(axes: Sequence[Axes], columns: int) -> None:
    """Numbers at the left and bottom axes alone, where a row or a column of axes has the same limits."""
    rows = [axes[start : start + columns] for start in range(0, len(axes), columns)]
    for row in rows:
        if len({axis.get_ylim() for axis in row}) == 1:
            for axis in row[1:]:
                axis.tick_params(axis="y", labelleft=False)
    for place in range(columns):
        column = [row[place] for row in rows if place < len(row)]
        if len({axis.get_xlim() for axis in column}) == 1:
            for axis in column[:-1]:
                axis.tick_params(axis="x", labelbottom=False)


def _width(columns: int) -> float:
    return WIDTH if columns > 1 else 0.62 * WIDTH


def _legend_columns(names: Sequence[str], columns: int) -> int:
    """As many entries side by side as fit the figure's width, spread evenly over the rows."""
    longest = max((len(name) for name in names), default=1)
    fitting = max(1, min(len(names), int(_width(columns) / (0.07 * longest + 0.55))))
    return math.ceil(len(names) / math.ceil(max(len(names), 1) / fitting))


def _handle(name: str, look: Style, points: bool) -> Line2D:
    marker = look.marker if points or not look.dense else ""
    line: Any = "" if points else look.linestyle
    return Line2D([], [], color=look.color, linestyle=line, marker=marker, markersize=6 if points else 5, label=name)
