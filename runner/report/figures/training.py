"""Training curves: loss and test accuracy by epoch, the mean over the seeds of each defense."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from runner.report.analysis import Analysis
from runner.report.data import ReportData
from runner.report.figures.drawing import grid, handles, legend, legend_rows
from runner.report.figures.styles import Style, styles
from runner.report.naming import in_order

SHOWN = {"loss": ("training loss ↓", 1.0), "test_accuracy": ("test accuracy (%) ↑", 100.0)}


def training_figures(analysis: Analysis) -> dict[str, Figure]:
    """By name: a figure per dataset and model with training histories."""
    history = _named(analysis.data)
    if history.empty:
        return {}
    looks = styles(analysis.series)
    figures = {}
    for (dataset, model), part in history.groupby(["dataset", "model"], sort=False):
        figures[f"training-{dataset}-{model}"] = _figure(part, f"Training · {dataset} / {model}", looks)
    return figures


def _named(data: ReportData) -> pd.DataFrame:
    """The histories with the curve names of their models; a model with two names has its history twice."""
    if data.history.empty:
        return data.history
    owners = data.runs.assign(series=data.runs["group_id"].map(data.names))
    owners = owners.drop_duplicates(["train_id", "series"])[["train_id", "series"]]
    return data.history.merge(owners, on="train_id")


def _figure(history: pd.DataFrame, title: str, looks: Mapping[str, Style]) -> Figure:
    names = in_order(history["series"])
    shown = [column for column in SHOWN if column in history]
    figure, axes = grid(len(shown), len(shown), legend_rows(names, len(shown)), height=2.6)
    for axis, column in zip(axes, shown, strict=True):
        label, scale = SHOWN[column]
        means = history.groupby(["series", "epoch"])[column].mean() * scale
        for name in names:
            _draw(axis, means.loc[name], looks[name])
        axis.set_xlabel("epoch")
        axis.set_ylabel(label)
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    legend(figure, title, handles(names, looks), len(shown))
    return figure


def _draw(axis: Axes, curve: pd.Series, look: Style) -> None:
    size = 0.0 if look.dense else 3.5
    shared: dict[str, Any] = {"color": look.color, "linestyle": look.linestyle, "linewidth": 1.4}
    axis.plot(curve.index.to_numpy(), curve.to_numpy(), marker=look.marker, markersize=size, **shared)
