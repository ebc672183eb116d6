"""The cost of robustness: area under the attacked metric's curve against test accuracy, with the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from runner.report.analysis import Analysis, robustness_column
from runner.report.figures.drawing import handles, panels_figure, say_undefined
from runner.report.figures.styles import Style, styles
from runner.report.naming import in_order

TITLE = "Robustness against accuracy"
FRONT = "Pareto front"


def scatter_figures(analysis: Analysis) -> dict[str, Figure]:
    """By name: a figure per setting, with a panel per attribution and attack."""
    figures: dict[str, Figure] = {}
    looks = styles(analysis.series)
    for setting in analysis.settings:
        panels = [(panel, rows[rows["n_seeds"] > 0]) for panel, rows in analysis.panels(setting)]
        panels = [(panel, rows) for panel, rows in panels if len(rows)]
        if panels:
            figures["-".join(["scatter", *setting.values()])] = _figure(analysis, panels, looks)
    return figures


def _figure(
    analysis: Analysis, panels: Sequence[tuple[Mapping[str, str], pd.DataFrame]], looks: Mapping[str, Style]
) -> Figure:
    names = in_order(pd.concat([rows for _, rows in panels])["series"])
    mark = Line2D([], [], color="#999999", linewidth=1.0, linestyle="--", label=FRONT)
    entries = [*handles(names, looks, points=True), mark]
    figure, axes = panels_figure([panel for panel, _ in panels], TITLE, entries, "test accuracy (%) ↑", height=3.2)
    for axis, (panel, rows) in zip(axes, panels, strict=True):
        info = analysis.data.metrics[analysis.primary(panel)]
        key, meaning = robustness_column(rows, info.name)
        draw_scatter(axis, rows, key, info.direction, looks)
        axis.set_ylabel(f"{info.title}\n({meaning})")
    return figure


def draw_scatter(axis: Axes, rows: pd.DataFrame, key: str, direction: str, looks: Mapping[str, Style]) -> None:
    """One point per defense with both intervals over seeds, and the Pareto front."""
    x, y = 100.0 * rows["test_accuracy"].to_numpy(), rows[key].to_numpy()
    xerr, yerr = 100.0 * _half_widths(rows, "test_accuracy"), _half_widths(rows, key)
    colors = [looks[name].color for name in rows["series"]]
    axis.hlines(y, x - xerr, x + xerr, colors=colors, linewidth=0.9, alpha=0.45, zorder=2)
    axis.vlines(x, y - yerr, y + yerr, colors=colors, linewidth=0.9, alpha=0.45, zorder=2)
    for index, name in enumerate(rows["series"]):
        look = looks[name]
        axis.plot(x[index], y[index], look.marker, color=look.color, markersize=8, mec="white", zorder=3)
    front = pareto(x, y, direction)
    axis.plot(x[front], y[front], color="#999999", linewidth=1.0, linestyle="--", zorder=1)
    if not np.isfinite(y).any():
        say_undefined(axis)
    axis.set_xlim(*_limits(x, xerr))
    axis.set_ylim(*_limits(y, yerr))


def _half_widths(rows: pd.DataFrame, key: str) -> np.ndarray:
    """Half intervals; 0 where one seed has none."""
    return np.nan_to_num((rows[f"{key}_high"] - rows[f"{key}_low"]).to_numpy(dtype=float) / 2.0)


def pareto(accuracy: np.ndarray, robustness: np.ndarray, direction: str) -> list[int]:
    """Positions of the points that are not dominated by another point, by accuracy."""
    signed = robustness if direction == "higher" else -robustness
    known = [index for index in range(len(signed)) if not math.isnan(accuracy[index] + signed[index])]
    front: list[int] = []
    for index in sorted(known, key=lambda item: (-accuracy[item], -signed[item])):
        if not front or signed[index] > signed[front[-1]]:
            front.append(index)
    return front[::-1]


def _limits(values: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """Limits with room for the median error bar and one span of the means; only unusually long bars run off the axis."""
    known = np.isfinite(values)
    if not known.any():
        return 0.0, 1.0
    values, errors = values[known], errors[known]
    low, high = float(np.min(values)), float(np.max(values))
    span = max(high - low, 0.02 * max(abs(high), abs(low)), 1e-3)
    room = max(span, 1.1 * float(np.median(errors)))
    bottom, top = (
        max(float(np.min(values - errors)), low - room),
        min(float(np.max(values + errors)), high + room),
    )
    margin = 0.08 * (top - bottom) + 0.05 * span
    return bottom - margin, top + margin
