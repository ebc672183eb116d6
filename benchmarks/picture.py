"""A picture of a results file: how far each case is from its target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import Row

_COLORS = {"one": "#4c72b0", "all": "#dd8452", "gpu": "#55a868"}
_NAMES = {"one": "one thread", "all": "all cores", "gpu": "GPU"}


def draw(rows: Sequence[Row], file: Path, title: str) -> None:
    """A dot with its range for each row with a target, as multiples of the target on a log scale: right of the line is met."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    aimed = [one for one in rows if one.target is not None]
    cases = list(dict.fromkeys(one.case for one in aimed))
    places = [where for where in _COLORS if any(one.where == where for one in aimed)]
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.3 * len(cases)), layout="constrained")
    for one in aimed:
        shift = 0.25 * (places.index(one.where) - (len(places) - 1) / 2)
        middle, *ends = (one.kind.margin(value, one.target or 1.0) for value in (one.value, one.low, one.high))
        spread = [[middle - min(ends)], [max(ends) - middle]]
        place = cases.index(one.case) + shift
        axes.errorbar(middle, place, xerr=spread, fmt="o", markersize=4, color=_COLORS[one.where], capsize=2)
    for where in places:
        axes.plot([], [], "o", color=_COLORS[where], label=_NAMES[where])
    axes.axvline(1.0, color="black", linewidth=1)
    what = {one.case: f"{one.what} ({'>=' if one.kind.rises else '<='} {one.target:g})" for one in aimed}
    axes.set_yticks(range(len(cases)), [what[case] for case in cases], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("times as good as the target (at least 1: met)")
    axes.set_title(title, fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(file, dpi=130)
    plt.close(figure)
