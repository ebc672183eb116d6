"""The files in `plots/`: every figure of a report as SVG, which the page shows too."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from runner.report.analysis import Analysis
from runner.report.figures.curves import curve_figures
from runner.report.figures.differences import difference_figures
from runner.report.figures.drawing import svg
from runner.report.figures.ranking import ranking_figures
from runner.report.figures.scatter import scatter_figures
from runner.report.figures.strength import strength_figures
from runner.report.figures.styles import RC
from runner.report.figures.training import training_figures
from runner.report.figures.transfer_matrix import matrix_figures
from runner.report.naming import slug
from runner.store.files import replacing

SECTIONS: dict[str, tuple[Callable[[Analysis], dict[str, Figure]], ...]] = {
    "differences": (difference_figures,),
    "curves": (curve_figures,),
    "cost": (ranking_figures, scatter_figures),
    "training": (training_figures,),
    "transfer": (matrix_figures,),
    "strength": (strength_figures,),
}
"""Section of the page -> the functions that draw its figures."""


@dataclass(frozen=True)
class Picture:
    """A figure that was written. `file` is relative to the page."""

    name: str
    caption: str
    data: bytes
    file: str

    @property
    def uri(self) -> str:
        """The SVG as a data URI."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.data).decode()}"


def write_figures(analysis: Analysis, out: Path) -> dict[str, list[Picture]]:
    """Draw all figures and write them to `out`/plots, each file atomically; pictures by section of the page."""
    with mpl.rc_context(RC):
        return {
            section: [
                _write(out, slug(name), name, svg(figure))
                for draw in functions
                for name, figure in draw(analysis).items()
            ]
            for section, functions in SECTIONS.items()
        }


def _write(out: Path, name: str, caption: str, content: bytes) -> Picture:
    file = f"plots/{name}.svg"
    with replacing(out / file) as temporary:
        temporary.write_bytes(content)
    return Picture(name, caption, content, file)
