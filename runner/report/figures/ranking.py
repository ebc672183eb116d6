"""Many defenses side by side: accuracy, robustness of each attribution under each attack, and cost, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from runner.report.analysis import Analysis, robustness_column
from runner.report.data import select
from runner.report.figures.drawing import draw_points, legend, named_rows, say_undefined
from runner.report.figures.styles import MARKERS, OKABE_ITO, UNDEFENDED
from runner.report.naming import in_order, is_undefended, setting_title, words

LEAST = 4
"""The number of defenses from which a ranking is drawn."""


def ranking_figures(analysis: Analysis) -> dict[str, Figure]:
    """By name: a figure per setting, with a row per defense (the most robust on top) and a column per quantity."""
    figures: dict[str, Figure] = {}
    for setting in analysis.settings:
        rows = select(analysis.table, setting)
        rows = rows[rows["n_seeds"] > 0]
        if rows["series"].nunique() >= LEAST:
            figures["-".join(["ranking", *setting.values()])] = _figure(analysis, setting, rows)
    return figures


def _figure(analysis: Analysis, setting: Mapping[str, str], rows: pd.DataFrame) -> Figure:
    metric = analysis.data.metrics[analysis.primary(analysis.panels(setting)[0][0])]
    key, meaning = robustness_column(rows, metric.name)
    means = rows.groupby("series")[key].mean().sort_values(ascending=metric.direction == "higher")
    names = list(map(str, means.index))
    attributions, attacks = in_order(rows["attribution"]), in_order(rows["attack"])
    count = len(attributions) + 2
    figure, axes = named_rows(names, count, (3.2 + 1.75 * count, 1.3 + 0.24 * len(names)))
    defenses = rows.drop_duplicates("series")
    _column(axes[0], defenses, names, "test_accuracy", UNDEFENDED, MARKERS[0], scale=100.0)
    axes[0].set_title("test accuracy, % ↑")
    colours = {attack: OKABE_ITO[place % len(OKABE_ITO)] for place, attack in enumerate(attacks)}
    markers = {attack: MARKERS[place % len(MARKERS)] for place, attack in enumerate(attacks)}
    for axis, attribution in zip(axes[1:], attributions, strict=False):
        for place, attack in enumerate(attacks):
            chosen = select(rows, {"attribution": attribution, "attack": attack})
            shift = 0.22 * (place - (len(attacks) - 1) / 2)
            _column(axis, chosen, names, key, colours[attack], markers[attack], shift)
        if not axis.lines:
            say_undefined(axis)
        axis.set_title(words(attribution))
    _column(axes[-1], defenses, names, "seconds_per_epoch", UNDEFENDED, MARKERS[0])
    _scale_of_seconds(axes[-1], defenses["seconds_per_epoch"])
    axes[-1].set_title("seconds an epoch ↓")
    marks = [
        Line2D([], [], color=colours[attack], marker=markers[attack], linestyle="", label=f"{attack} attack")
        for attack in attacks
    ]
    legend(figure, f"{metric.title}, {meaning} · {setting_title(setting)}", marks)
    return figure


def _scale_of_seconds(axis: Axes, seconds: pd.Series[float]) -> None:
    """A logarithmic axis if the slowest takes five times as long as the fastest or more, with a few round ticks."""
    known = seconds[seconds > 0]
    if known.empty or known.max() < 5 * known.min():
        return
    axis.set_xscale("log")
    decades = np.log10(known.max() / known.min())
    axis.xaxis.set_major_locator(
        LogLocator(subs=(1.0,) if decades > 2 else (1.0, 3.0) if decades > 1 else (1.0, 2.0, 5.0))
    )
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())


def _column(
    axis: Axes,
    rows: pd.DataFrame,
    names: Sequence[str],
    key: str,
    color: str,
    marker: str,
    shift: float = 0.0,
    scale: float = 1.0,
) -> None:
    """Means with intervals over seeds; the interval of the undefended model is shaded."""
    if not len(rows):
        return
    chosen = rows.set_index("series").reindex(list(names))
    mean, low, high = (scale * chosen[f"{key}{end}"].to_numpy(dtype=float) for end in ("", "_low", "_high"))
    mean = np.where(np.isfinite(mean), mean, np.nan)
    if np.isnan(mean).all():
        return
    draw_points(axis, np.arange(len(names)) + shift, (mean, low, high), color, marker, linewidth=1.1, alpha=0.6)
    for place, name in enumerate(names):
        if is_undefended(name) and not np.isnan(high[place] - low[place]):
            axis.axvspan(low[place], high[place], color=color, alpha=0.12, linewidth=0)
    spread = np.nanmax(mean) - np.nanmin(mean)
    left, right = np.nanmin(mean) - 0.35 * spread, np.nanmax(mean) + 0.35 * spread
    if spread > 0 and key != "seconds_per_epoch":  # only unusually long intervals run off the axis
        before = axis.get_xlim() if len(axis.lines) > 1 else (left, right)
        axis.set_xlim(min(left, before[0]), max(right, before[1]))
