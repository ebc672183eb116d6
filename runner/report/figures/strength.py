"""Strength of the attacks: the metric that each leaves at the largest budget, for every attribution and defense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runner.report.analysis import Analysis
from runner.report.data import MetricInfo, select
from runner.report.figures.drawing import draw_points, handles, legend, named_rows, say_undefined
from runner.report.figures.styles import Style, styles
from runner.report.naming import in_order, setting_title, words

LEAST = 4
"""The number of attacks from which a figure compares them."""


def strength_figures(analysis: Analysis) -> dict[str, Figure]:
    """By name: a figure per setting, with a row per attack (the strongest on top) and a column per attribution.

    Transferred attacks are left out; they are in the transfer matrix.
    """
    runs = analysis.data.runs
    own = runs[runs["source_run"].isna()] if "source_run" in runs else runs
    kept = [name for name in own["kept_by"].value_counts().index if name in analysis.data.metrics]
    info = analysis.data.metrics[kept[0]] if kept else next(iter(analysis.data.metrics.values()))
    curves = analysis.curves
    curves = curves[curves["attack"].isin(set(own["attack"])) & (curves["metric"] == info.name)]
    figures = {}
    for setting in analysis.settings:
        rows = select(curves, setting)
        rows = rows[rows["epsilon"] == rows["epsilon"].max()]
        if rows["attack"].nunique() >= LEAST:
            figures["-".join(["strength", *setting.values()])] = _figure(rows, setting, info, analysis.series)
    return figures


def _figure(rows: pd.DataFrame, setting: Mapping[str, str], info: MetricInfo, series: Sequence[str]) -> Figure:
    means = rows.groupby("attack")["mean"].mean().sort_values(ascending=info.direction != "higher")
    attacks = list(map(str, means.index))
    attributions, looks = in_order(rows["attribution"]), styles(series)
    defenses = [name for name in series if name in set(rows["series"])]
    size = (1.6 + 2.1 * len(attributions), 1.3 + 0.3 * len(attacks))
    figure, axes = named_rows(attacks, len(attributions), size)
    for axis, attribution in zip(axes, attributions, strict=True):
        for place, defense in enumerate(defenses):
            shift = 0.2 * (place - (len(defenses) - 1) / 2)
            chosen = select(rows, {"attribution": attribution, "series": defense})
            _points(axis, chosen.set_index("attack").reindex(attacks), looks[defense], shift)
        if not axis.lines:
            say_undefined(axis)
        axis.set_title(words(attribution))
    title = f"{info.title} at ε = {rows['epsilon'].iloc[0]:g} · {setting_title(setting)}"
    legend(figure, title, handles(defenses, looks, points=True))
    return figure


def _points(axis: Axes, rows: pd.DataFrame, style: Style, shift: float) -> None:
    """Means with intervals over seeds, if there are several; long intervals of few seeds run off the axis."""
    mean, low, high = (rows[name].to_numpy(dtype=float) for name in ("mean", "low", "high"))
    mean = np.where(np.isfinite(mean), mean, np.nan)
    if np.isnan(mean).all():
        return
    before = axis.get_xlim() if len(axis.lines) else (np.inf, -np.inf)
    places = np.arange(len(rows)) + shift
    draw_points(axis, places, (mean, low, high), style.color, style.marker, linewidth=1.0, alpha=0.35)
    spread = max(float(np.nanmax(mean) - np.nanmin(mean)), 0.02)
    axis.set_xlim(min(before[0], np.nanmin(mean) - 0.15 * spread), max(before[1], np.nanmax(mean) + 0.15 * spread))
