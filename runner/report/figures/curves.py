"""Metric against epsilon: a line per defense, a band for the interval over seeds, the noise floor of stochastic maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from runner.report.analysis import Analysis
from runner.report.certificate_bands import bounds_of
from runner.report.data import MetricInfo, select
from runner.report.figures.bounds import bound_handles, draw_bounds, with_bounds
from runner.report.figures.drawing import (
    MAX_COLUMNS,
    draw_bands,
    grid,
    handles,
    label_edges,
    legend,
    legend_rows,
    say_undefined,
)
from runner.report.figures.styles import Style, styles
from runner.report.naming import in_order

NO_BUDGET_GAP = 0.12
"""The attack without a budget stands to the right of the largest budget, by this share of the axis."""
FLOOR = "noise floor (ε = 0)"

Panel = Mapping[str, str]


def curve_figures(analysis: Analysis) -> dict[str, Figure]:
    """By name: a figure per setting and attack, with at most `MAX_COLUMNS` attributions."""
    figures: dict[str, Figure] = {}
    looks = styles(analysis.series)
    for setting in analysis.settings:
        panels = [panel for panel, rows in analysis.panels(setting) if rows["n_seeds"].sum()]
        for attack in dict.fromkeys(panel["attack"] for panel in panels):
            chosen = [panel for panel in panels if panel["attack"] == attack]
            for start in range(0, len(chosen), MAX_COLUMNS):
                part = f"-{start // MAX_COLUMNS + 1}" if len(chosen) > MAX_COLUMNS else ""
                name = "-".join(["curves", *setting.values(), attack]) + part
                figures[name] = _figure(analysis, chosen[start : start + MAX_COLUMNS], looks)
    return figures


def _figure(analysis: Analysis, panels: Sequence[Panel], looks: Mapping[str, Style]) -> Figure:
    """A row per metric and a column per attribution; a single attribution fills rows of three metrics."""
    primary = analysis.primary(panels[0])
    infos = sorted(analysis.data.metrics.values(), key=lambda info: info.name != primary)
    columns = len(panels) if len(panels) > 1 else min(len(infos), MAX_COLUMNS)
    curves = [select(analysis.curves, panel) for panel in panels]
    floors = [analysis.stochastic(panel) for panel in panels]
    bounds = [[bounds_of(analysis.bands, panel, info.name) for panel in panels] for info in infos]
    marks = [*_floor_handle(any(floors)), *bound_handles([bound for row in bounds for bound in row])]
    names = in_order(pd.concat(curves)["series"])
    labels = [*names, *(str(mark.get_label()) for mark in marks)]
    figure, axes = grid(len(infos) * len(panels), columns, legend_rows(labels, columns))
    for row, info in enumerate(infos):
        chosen = [select(curve, {"metric": info.name}) for curve in curves]
        shown = with_bounds(limits(pd.concat(chosen), info), pd.concat(bounds[row]), info)
        own_axes = axes[row * len(panels) : (row + 1) * len(panels)]
        for axis, curve, bound, floor in zip(own_axes, chosen, bounds[row], floors, strict=True):
            draw_curves(axis, curve, looks, floor)
            if not np.isfinite(curve["mean"]).any():
                say_undefined(axis)
            draw_bounds(axis, curve, bound, looks)
            axis.set_ylim(*shown)
    label_edges(axes, columns)
    _label(axes, panels, infos, columns)
    legend(figure, _title(panels), [*handles(names, looks), *marks], columns)
    return figure


def _floor_handle(floor: bool) -> list[Line2D]:
    return [Line2D([], [], color="#555555", label=FLOOR, linestyle=":", marker="D", mfc="white")] if floor else []


def _title(panels: Sequence[Panel]) -> str:
    first = panels[0]
    single = f" of {first['attribution']}" if len(panels) == 1 else ""
    return f"{first['attack']} attack{single} · {first['dataset']} / {first['model']}"


def _label(axes: Sequence[Axes], panels: Sequence[Panel], infos: Sequence[MetricInfo], columns: int) -> None:
    for index, axis in enumerate(axes):
        info = infos[index // len(panels)]
        if index >= len(axes) - columns:
            axis.set_xlabel(f"ε ({panels[0]['norm']}, images in [0, 1])")
        if index % columns == 0 or len(panels) == 1:
            axis.set_ylabel(f"{info.title}\n({info.unit})" if info.unit else info.title)
        if len(panels) > 1 and index < columns:
            axis.set_title(panels[index]["attribution"])


def draw_curves(axis: Axes, curves: pd.DataFrame, looks: Mapping[str, Style], floor: bool) -> None:
    """The curves of one metric in one panel. `floor` marks epsilon 0 as the noise floor of a stochastic map."""
    largest = max((epsilon for epsilon in curves["epsilon"] if math.isfinite(epsilon)), default=0.0)
    beyond = largest * (1.0 + NO_BUDGET_GAP) if largest > 0 else 1.0
    ordered = curves.sort_values("epsilon", kind="stable")
    by_name = {str(name): curve for name, curve in ordered.groupby("series", sort=False)}
    names = in_order(by_name)
    for name in names:
        curve, look = by_name[name], looks[name]
        x = curve["epsilon"].where(np.isfinite(curve["epsilon"]), beyond).to_numpy()
        _draw(axis, x, curve, look)
        if floor:
            _draw_floor(axis, curve, look)
    finite = [by_name[name][np.isfinite(by_name[name]["epsilon"])] for name in names]
    bands = [curve[["epsilon", "low", "high"]].to_numpy().T for curve in finite]
    dense = any(looks[name].dense for name in names)
    draw_bands(axis, bands, [looks[name].color for name in names], alpha=0.06 if dense else 0.13)
    axis.set_xlim(-0.025 * beyond, 1.025 * (beyond if np.isinf(curves["epsilon"]).any() else largest or 1.0))
    _ticks(axis, largest, beyond if np.isinf(curves["epsilon"]).any() else None)


def _draw(axis: Axes, x: np.ndarray, curve: pd.DataFrame, look: Style) -> None:
    finite = np.isfinite(curve["epsilon"].to_numpy())
    mean, low, high = (curve[key].to_numpy() for key in ("mean", "low", "high"))
    size = 0.0 if look.dense else 4.0
    shared: dict[str, Any] = {"color": look.color, "linestyle": look.linestyle, "linewidth": 1.2 if look.dense else 1.6}
    axis.plot(x[finite], mean[finite], marker=look.marker, markersize=size, **shared)
    if not finite.all():
        errors = np.nan_to_num(np.stack([mean - low, high - mean])[:, ~finite])
        axis.errorbar(x[~finite], mean[~finite], errors, fmt=look.marker, color=look.color, ms=5, capsize=2, lw=1)


def _draw_floor(axis: Axes, curve: pd.DataFrame, look: Style) -> None:
    zero = curve["mean"].to_numpy()[curve["epsilon"].to_numpy() == 0]
    axis.plot(np.zeros(len(zero)), zero, "D", mfc="white", mec=look.color, ms=6, zorder=4, clip_on=False)
    if not look.dense:
        for mean in zero:
            axis.axhline(mean, color=look.color, linestyle=":", linewidth=0.8, zorder=1)


def _ticks(axis: Axes, largest: float, beyond: float | None) -> None:
    if beyond is None:
        axis.xaxis.set_major_locator(MaxNLocator(6))
        return
    ticks = [float(tick) for tick in MaxNLocator(5).tick_values(0.0, largest) if 0 <= tick <= largest] or [0.0]
    axis.set_xticks([*ticks, beyond], [*(f"{tick:g}" for tick in ticks), "∞"])


def limits(curves: pd.DataFrame, info: MetricInfo) -> tuple[float, float]:
    """y-limits for the means: wide intervals of few seeds run off the axis, so that they do not flatten the curves. (0, 1) without
    a mean."""
    curves = curves[np.isfinite(curves["mean"])]
    if curves.empty:
        return 0.0, 1.0
    low, high = float(curves["mean"].min()), float(curves["mean"].max())
    room = 0.5 * max(high - low, 0.02 * max(abs(low), abs(high)), 1e-3)
    bottom = max(low - room, min(low, float(curves["low"].fillna(low).min())), info.low)
    top = min(high + room, max(high, float(curves["high"].fillna(high).max())), info.high)
    margin = 0.05 * max(top - bottom, 1e-3)
    return bottom - margin, top + margin
