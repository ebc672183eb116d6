"""The transfer matrix: a row per model or attribution that images were optimised on, a column per one they were scored on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from runner.report.analysis import Analysis
from runner.report.data import MetricInfo
from runner.report.figures.drawing import empty_figure
from runner.report.naming import budget_label, in_order
from runner.report.transfers import MATRIX, WHITE_BOX

TILE = (1.3, 0.62)
"""Width and height of an entry in inches."""
MARGIN = (3.2, 1.5)
"""Width of the row names and the colour bar, and height of the title and the column names, in inches."""


def matrix_figures(analysis: Analysis) -> dict[str, Figure]:
    """By name: a figure per matrix."""
    figures, frame = {}, analysis.transfers
    for key, entries in frame.groupby(list(MATRIX), sort=False) if len(frame) else ():
        labels = dict(zip(MATRIX, map(str, key), strict=True))
        info = analysis.data.metrics[labels["metric"]]
        figures["-".join(["transfer", *labels.values()])] = _figure(entries, labels, info)
    return figures


def _figure(entries: pd.DataFrame, labels: Mapping[str, str], info: MetricInfo) -> Figure:
    """Each entry: the mean of the metric above the transfer gap; white-box attacks are framed. Grey: not measured."""
    columns, sources = in_order(entries["scored_on"]), in_order(entries["optimised_on"])
    rows = [name for name in sources if name == WHITE_BOX] + [name for name in sources if name != WHITE_BOX]
    size = (TILE[0] * len(columns) + MARGIN[0], TILE[1] * len(rows) + MARGIN[1])
    figure = empty_figure(size, 0.08)
    axis = figure.add_subplot()
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    values = entries.pivot(index="optimised_on", columns="scored_on", values="value").reindex(rows, columns=columns)
    colours = mpl.colormaps["viridis" if info.direction == "higher" else "viridis_r"].with_extremes(bad="#e6e6e6")
    image = axis.imshow(np.ma.masked_invalid(values.to_numpy()), cmap=colours, aspect="auto")
    for record in entries.to_dict("records"):
        _annotate(axis, columns.index(record["scored_on"]), rows.index(record["optimised_on"]), record, image)
    slanted = {"rotation": 20, "ha": "right", "rotation_mode": "anchor"} if max(map(len, columns)) > 15 else {}
    axis.set_xticks(range(len(columns)), columns, **slanted)  # type: ignore[arg-type]
    axis.set_yticks(range(len(rows)), rows)
    axis.tick_params(length=0)
    axis.set_xlabel("scored on")
    axis.set_ylabel("optimised on")
    budget = budget_label(float(entries["epsilon"].max()), labels["norm"])
    figure.colorbar(image, ax=axis, label=info.title)
    figure.suptitle(
        f"Transfer of {labels['attack']} · {labels['dataset']}, {labels['where']} · {budget}", weight="bold", size=10
    )
    return figure


def _annotate(axis: Axes, x: int, y: int, record: Mapping[Any, Any], image: Any) -> None:
    red, green, blue, _ = image.cmap(image.norm(record["value"]))
    ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
    gap = "" if math.isnan(record["gap"]) else f"gap {100 * record['gap']:.0f} %"
    value = "undefined" if math.isnan(record["value"]) else f"{record['value']:.3f}"
    below = WHITE_BOX if record["white_box"] else gap
    axis.text(x, y, f"{value}\n{below}".strip(), ha="center", va="center", color=ink, fontsize=8.5)
    if record["white_box"]:
        axis.add_patch(Rectangle((x - 0.47, y - 0.45), 0.94, 0.9, fill=False, edgecolor=ink, linewidth=1.2))
