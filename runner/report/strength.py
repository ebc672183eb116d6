"""How strong the attacks are: what each leaves of the maps at the largest budget, for every attribution and defense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from runner.report.analysis import Analysis, select
from runner.report.load import MetricInfo
from runner.report.naming import in_order
from runner.report.styles import Style, styles

LEAST = 4
"""From so many attacks on, a figure compares them."""


def strength_figures(analysis: Analysis) -> dict[str, Figure]:
    """By name: one figure per setting, a row an attack (the strongest on top), a column an attribution.

    Attacks that take images from elsewhere have a matrix of their own and are left out.
    """
    runs = analysis.data.runs
    own = runs[runs["source_run"].isna()] if "source_run" in runs else runs
    kept = [name for name in own["kept_by"].value_counts().index if name in analysis.data.metrics]
    info = analysis.data.metrics[kept[0]] if kept else next(iter(analysis.data.metrics.values()))
    curves = analysis.curves
    curves = curves[curves["attack"].isin(set(own["attack"])) & (curves["metric"] == info.name)]
    figures = {}
    for setting in analysis.settings():
        cells = select(curves, setting)
        cells = cells[cells["epsilon"] == cells["epsilon"].max()]
        if cells["attack"].nunique() >= LEAST:
            figures["-".join(["strength", *setting.values()])] = _figure(cells, setting, info, analysis.series)
    return figures


def _figure(cells: pd.DataFrame, setting: Mapping[str, str], info: MetricInfo, series: Sequence[str]) -> Figure:
    means = cells.groupby("attack")["mean"].mean()
    attacks = [str(name) for name in means.sort_values(ascending=info.direction != "higher").index]
    attributions, looks = in_order(cells["attribution"]), styles(series)
    defenses = [name for name in series if name in set(cells["series"])]
    size = (1.6 + 2.1 * len(attributions), 1.3 + 0.3 * len(attacks))
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))
    axes = [figure.add_subplot(1, len(attributions), place + 1) for place in range(len(attributions))]
    for axis, attribution in zip(axes, attributions, strict=True):
        for place, defense in enumerate(defenses):
            shift = 0.2 * (place - (len(defenses) - 1) / 2)
            chosen = cells[(cells["attribution"] == attribution) & (cells["series"] == defense)]
            _points(axis, chosen.set_index("attack").reindex(attacks), looks[defense], shift)
        axis.set_title(attribution.replace("_", " "))
        axis.set_ylim(-0.6, len(attacks) - 0.4)
        axis.set_yticks(range(len(attacks)), attacks if axis is axes[0] else [""] * len(attacks))
        axis.tick_params(axis="y", length=0)
    marks = [
        Line2D([], [], color=looks[name].color, marker=looks[name].marker, linestyle="", label=name)
        for name in defenses
    ]
    title = f"{info.title} at ε = {cells['epsilon'].iloc[0]:g} · {setting['dataset']} / {setting['model']}, {setting['norm']}"
    bold = {"weight": "bold", "size": 11}
    figure.legend(handles=marks, loc="outside upper center", ncols=len(marks), title=title, title_fontproperties=bold)
    return figure


def _points(axis: Axes, cells: pd.DataFrame, style: Style, shift: float) -> None:
    """Means, with intervals over seeds where there are several; those of few seeds run off the axis."""
    mean, low, high = (cells[name].to_numpy(dtype=float) for name in ("mean", "low", "high"))
    places = np.arange(len(cells)) + shift
    before = axis.get_xlim() if len(axis.lines) else (np.inf, -np.inf)
    axis.hlines(places, low, high, color=style.color, linewidth=1.0, alpha=0.35)
    axis.plot(mean, places, style.marker, color=style.color, markersize=4.5, mec="white", mew=0.5, linestyle="")
    spread = max(float(np.nanmax(mean) - np.nanmin(mean)), 0.02)
    axis.set_xlim(min(before[0], np.nanmin(mean) - 0.15 * spread), max(before[1], np.nanmax(mean) + 0.15 * spread))
