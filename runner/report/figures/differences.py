"""What each defense gains over natural training against the budget, on the same images and seeds, with paired intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from runner.report.analysis import Analysis
from runner.report.data import select
from runner.report.figures.drawing import draw_bands, handles, panels_figure
from runner.report.figures.styles import UNDEFENDED, Style, styles
from runner.report.naming import in_order

TITLE = "Difference from natural training, same images and seeds"
NATURAL = "natural training"


def difference_figures(analysis: Analysis) -> dict[str, Figure]:
    """By name: a figure per setting, with a panel per attribution and attack that has natural training to compare with."""
    figures: dict[str, Figure] = {}
    looks = styles(analysis.series)
    for setting in analysis.settings:
        panels = []
        for panel, _ in analysis.panels(setting):
            rows = select(analysis.comparisons, {**panel, "metric": analysis.primary(panel)})
            rows = rows[np.isfinite(rows["epsilon"]) & (rows["epsilon"] > 0)]
            panels += [(panel, rows)] if np.isfinite(rows["low"]).any() else []
        if panels:
            figures["-".join(["differences", *setting.values()])] = _figure(analysis, panels, looks)
    return figures


def _figure(
    analysis: Analysis, panels: Sequence[tuple[Mapping[str, str], pd.DataFrame]], looks: Mapping[str, Style]
) -> Figure:
    names = in_order(pd.concat([rows for _, rows in panels])["series"])
    mark = Line2D([], [], color=UNDEFENDED, linewidth=1.2, label=NATURAL)
    labels = [panel for panel, _ in panels]
    xlabel = f"ε ({labels[0]['norm']}, images in [0, 1])"
    figure, axes = panels_figure(labels, TITLE, [mark, *handles(names, looks)], xlabel, height=2.9)
    for axis, (panel, rows) in zip(axes, panels, strict=True):
        _draw(axis, rows, looks)
        axis.set_ylabel(f"difference of\n{analysis.data.metrics[analysis.primary(panel)].title}")
    return figure


def _draw(axis: Axes, rows: pd.DataFrame, looks: Mapping[str, Style]) -> None:
    """Lines for the means, bands for the paired intervals; wide bands of few seeds run off the axis."""
    axis.axhline(0.0, color=UNDEFENDED, linewidth=1.2)
    names, bands = in_order(rows["series"]), []
    for name in names:
        curve, look = rows[rows["series"] == name].sort_values("epsilon"), looks[name]
        shared = {"color": look.color, "linestyle": look.linestyle, "linewidth": 1.2 if look.dense else 1.6}
        axis.plot(curve["epsilon"], curve["mean"], marker=look.marker, markersize=0 if look.dense else 4, **shared)
        bands.append(curve[["epsilon", "low", "high"]].to_numpy().T)
    dense = any(looks[name].dense for name in names)
    draw_bands(axis, bands, [looks[name].color for name in names], alpha=0.06 if dense else 0.15)
    low, high = min(0.0, rows["mean"].min()), max(0.0, rows["mean"].max())
    room = 0.6 * max(high - low, 1e-3)
    axis.set_ylim(max(low - room, min(low, rows["low"].min())), min(high + room, max(high, rows["high"].max())))
    axis.margins(x=0.02)
    axis.xaxis.set_major_locator(MaxNLocator(6))
