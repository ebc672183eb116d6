"""The galleries of the page: the pixels of each example as a small picture, all words as text of the page.

A run's own folder has the same gallery as one large picture (`gallery.png`); the page lets the browser enlarge the pixels, so that
hundreds of galleries cost little time and little room.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from runner.report.analysis import Analysis
from runner.report.data import PANEL, Gallery
from runner.report.figures.gallery import GAP, caption, heads, magnification, tiles
from runner.report.naming import budget_label, setting_title, slug


@dataclass(frozen=True)
class Strip:
    """One example: its caption, and its five tiles side by side as a data URI."""

    caption: str
    uri: str


@dataclass(frozen=True)
class PageGallery:
    """The gallery of one configuration."""

    name: str
    title: str
    heads: tuple[str, ...]
    """The names of the tiles."""
    strips: list[Strip]


def page_galleries(analysis: Analysis) -> dict[str, list[PageGallery]]:
    """The gallery of each configuration (of its lowest seed), by title of the panel."""
    found: dict[str, list[PageGallery]] = {}
    galleries = analysis.data.galleries
    for record in analysis.table.to_dict("records") if galleries else ():
        if (gallery := galleries.get(str(record["group_id"]))) is None:
            continue
        panel = f"{record['attribution']}, {record['attack']} · {setting_title(record)}"
        name = slug("gallery", *(str(record[key]) for key in (*PANEL, "series")), f"s{gallery.seed}")
        title = f"{record['series']} · {record['attribution']}, {record['attack']} attack · seed {gallery.seed}"
        title = f"{title} · {budget_label(gallery.epsilon, gallery.norm)}"
        info = analysis.data.metrics.get(gallery.metric)
        strips = [
            Strip(caption(example, gallery.metric, info), _uri(strip(gallery, index)))
            for index, example in enumerate(gallery.examples)
        ]
        found.setdefault(panel, []).append(PageGallery(name, title, heads(gallery), strips))
    return found


def strip(gallery: Gallery, index: int) -> np.ndarray:
    """(H, 5 W + 4 gaps, 3) bytes: the five tiles of an example pixel by pixel, with white gaps."""
    shown = tiles(gallery, index, magnification(gallery))
    gap = np.ones((shown[0].shape[0], max(1, round(GAP * shown[0].shape[1])), 3))
    parts = [part for tile in shown for part in (tile, gap)][:-1]
    pixels: np.ndarray = np.rint(255 * np.concatenate(parts, axis=1)).astype(np.uint8)
    return pixels


def _uri(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
