"""A colour, marker and line style for each defense, the same in every figure of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.colors import to_hex

from runner.report.naming import is_undefended

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Safe for colour-blind readers (Okabe and Ito 2008); without its yellow, which is hard to see on white."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (2, 1)), (0, (1, 1)))
UNDEFENDED = "#222222"

RC: dict[Any, Any] = {
    "font.size": 9.0,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "legend.handlelength": 2.6,
    "svg.hashsalt": "runner.report",
}


@dataclass(frozen=True)
class Style:
    """The look of one defense."""

    color: str
    marker: str
    linestyle: Any
    """A matplotlib line style: a name, or (offset, on-off lengths)."""
    dense: bool
    """Whether there are so many curves that full markers and bands would hide each other."""


def styles(series: Sequence[str]) -> dict[str, Style]:
    """Styles of names in natural order. `none` is black; many defenses share one sequential colour map."""
    defended = [name for name in series if not is_undefended(name)]
    undefended = [name for name in series if is_undefended(name)]
    dense = len(defended) > len(OKABE_ITO)
    found = {
        name: Style(UNDEFENDED, MARKERS[0], DASHES[index % len(DASHES)], dense) for index, name in enumerate(undefended)
    }
    for index, name in enumerate(defended):
        if dense:
            share = 0.05 + 0.87 * index / (len(defended) - 1)
            found[name] = Style(to_hex(mpl.colormaps["viridis"](share)), MARKERS[index % 2], DASHES[index % 2], dense)
        else:
            found[name] = Style(OKABE_ITO[index], MARKERS[index + 1], DASHES[index + 1], dense)
    return found
