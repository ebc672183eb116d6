"""One colour, marker and line style a defense, the same in every figure of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.colors import to_hex

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Safe for colour-blind readers (Okabe and Ito 2008); yellow is left out, it does not show on white."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = (
    "-",
    "--",
    "-.",
    (0, (5, 1, 1, 1, 1, 1)),
    (0, (8, 2)),
    (0, (2, 1)),
    (0, (1, 1)),
)
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
    """How one defense is drawn."""

    color: str
    marker: str
    linestyle: Any
    """A matplotlib line style: a name, or (offset, on-off lengths)."""
    dense: bool
    """Whether there are so many curves that markers and bands of each would hide the others."""


def styles(series: Sequence[str]) -> dict[str, Style]:
    """Styles of names given in natural order. `none` is black; many curves share one sequential colour map."""
    defended = [name for name in series if name.split(" ", maxsplit=1)[0] != "none"]
    undefended = [name for name in series if name not in defended]
    dense = len(defended) > len(OKABE_ITO)
    found = {
        name: Style(UNDEFENDED, MARKERS[0], DASHES[index % len(DASHES)], dense) for index, name in enumerate(undefended)
    }
    for index, name in enumerate(defended):
        if dense:
            share = 0.05 + 0.87 * index / max(len(defended) - 1, 1)
            found[name] = Style(to_hex(mpl.colormaps["viridis"](share)), MARKERS[index % 2], DASHES[index % 2], dense)
        else:
            found[name] = Style(
                OKABE_ITO[index], MARKERS[(index + 1) % len(MARKERS)], DASHES[(index + 1) % len(DASHES)], dense
            )
    return found
