"""Certificates in the curves: the bound as a line, and the band between it and the attack."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from runner.report.data import MetricInfo
from runner.report.figures.styles import Style
from runner.report.naming import in_order
from runner.stats.claims import BOUND

CERTIFICATE = "certificate: the worst case lies between it and the attack"
ESTIMATE = "first-order estimate of the worst case, no certificate"
BOUND_DASHES = (0, (4, 2))


def draw_bounds(axis: Axes, curves: pd.DataFrame, bounds: pd.DataFrame, looks: Mapping[str, Style]) -> None:
    """Certificates dashed, with the band between them and the attack; estimates dotted, without a band."""
    for name in in_order(bounds["series"]) if len(bounds) else ():
        bound, look = bounds[bounds["series"] == name].sort_values("epsilon"), looks[name]
        x, values = bound["epsilon"].to_numpy(), bound[BOUND].to_numpy()
        estimate = bool(bound["estimate"].iloc[0])
        axis.plot(x, values, color=look.color, linestyle=":" if estimate else BOUND_DASHES, linewidth=1.1)
        if not estimate:
            attacked = curves[curves["series"] == name].set_index("epsilon")["mean"].reindex(x).to_numpy()
            axis.fill_between(x, values, attacked, color=look.color, alpha=0.07, lw=0, hatch="//")


def with_bounds(shown: tuple[float, float], bounds: pd.DataFrame, info: MetricInfo) -> tuple[float, float]:
    """y-limits that include the bounds; those on an unbounded metric at most double the height of the axis to each side."""
    if bounds.empty:
        return shown
    low, high = shown
    room = math.inf if math.isfinite(info.low) and math.isfinite(info.high) else high - low
    margin = 0.03 * (high - low)
    bottom, top = float(bounds[BOUND].min()) - margin, float(bounds[BOUND].max()) + margin
    return max(min(low, bottom), low - room), min(max(high, top), high + room)


def bound_handles(bounds: Sequence[pd.DataFrame]) -> list[Line2D]:
    """Legend entries for certificates and estimates, if there are any."""
    drawn = {bool(estimate) for frame in bounds if not frame.empty for estimate in frame["estimate"]}
    certificate = Line2D([], [], color="#555555", label=CERTIFICATE, linestyle=BOUND_DASHES, linewidth=1.1)
    estimate = Line2D([], [], color="#555555", label=ESTIMATE, linestyle=":", linewidth=1.4)
    return [*([certificate] if False in drawn else []), *([estimate] if True in drawn else [])]
