"""The files in `plots/`: every figure of a report as PNG and SVG, and the galleries as PNG."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from runner.report.analysis import Analysis
from runner.report.data import PANEL
from runner.report.figures.curves import curve_figures
from runner.report.figures.differences import difference_figures
from runner.report.figures.drawing import png, svg
from runner.report.figures.gallery import gallery_png
from runner.report.figures.ranking import ranking_figures
from runner.report.figures.scatter import scatter_figures
from runner.report.figures.strength import strength_figures
from runner.report.figures.styles import RC
from runner.report.figures.training import training_figures
from runner.report.figures.transfer_matrix import matrix_figures
from runner.report.naming import setting_title, slug
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
    """A figure that was written. `files` are relative to the page."""

    name: str
    caption: str
    data: bytes
    files: tuple[str, ...]

    @property
    def uri(self) -> str:
        """The PNG as a data URI."""
        return f"data:image/png;base64,{base64.b64encode(self.data).decode()}"


def write_figures(analysis: Analysis, out: Path) -> dict[str, list[Picture]]:
    """Draw all figures and write them to `out`/plots, each file atomically; pictures by section of the page."""
    with mpl.rc_context(RC):
        return {
            section: [
                _write(out, slug(name), name, {"png": png(figure), "svg": svg(figure)})
                for draw in functions
                for name, figure in draw(analysis).items()
            ]
            for section, functions in SECTIONS.items()
        }


def write_galleries(analysis: Analysis, out: Path) -> dict[str, list[Picture]]:
    """Draw the gallery of each configuration (of its lowest seed) and write it; pictures by title of the panel."""
    found: dict[str, list[Picture]] = {}
    galleries = analysis.data.galleries
    for record in analysis.table.to_dict("records") if galleries else ():
        if (gallery := galleries.get(str(record["group_id"]))) is None:
            continue
        panel = f"{record['attribution']}, {record['attack']} · {setting_title(record)}"
        name = slug("gallery", *(str(record[key]) for key in (*PANEL, "series")), f"s{gallery.seed}")
        title = f"{record['series']} · {record['attribution']}, {record['attack']} attack · seed {gallery.seed}"
        picture = gallery_png(gallery, analysis.data.metrics.get(gallery.metric), title)
        found.setdefault(panel, []).append(_write(out, name, title, {"png": picture}))
    return found


def _write(out: Path, name: str, caption: str, contents: Mapping[str, bytes]) -> Picture:
    """Write a figure in each format; the page shows the PNG."""
    files = {f"plots/{name}.{ending}": content for ending, content in contents.items()}
    for file, content in files.items():
        with replacing(out / file) as temporary:
            temporary.write_bytes(content)
    return Picture(name, caption, contents["png"], tuple(files))
