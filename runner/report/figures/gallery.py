"""The worst, median and best example of a run: image, perturbed image, perturbation, and both maps.

Drawn with Pillow: a report has hundreds of galleries, and matplotlib takes about five times as long for pixels and a few words.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from runner.report.data import Gallery, MetricInfo
from runner.report.naming import budget_label

TILE = 172
"""Side of a tile, in pixels."""
GAP = 0.06
"""Space between tiles, in tiles."""
CAPTION = 0.26
"""Space for the caption above each row, in tiles."""
HEAD = 0.5
"""Space for the title and the names of the columns, in tiles."""
MAGNIFICATIONS = (100, 50, 20, 10, 5, 2, 1)


@dataclass(frozen=True)
class Words:
    """Words in the picture: their place in tiles, from the left or centred, and their font."""

    text: str
    x: float
    y: float
    size: int = 17
    centred: bool = False
    bold: bool = False
    colour: str = "#000000"


def gallery_png(gallery: Gallery, info: MetricInfo | None, title: str) -> bytes:
    """A row of five tiles per example, with a caption above it, as PNG; the same gallery gives the same bytes."""
    factor = magnification(gallery)
    rows, aspect = _rows(gallery)
    width, height = 5 + 6 * GAP, HEAD + len(gallery.examples) * rows + GAP
    picture = Image.new("RGB", (round(TILE * width), round(TILE * height)), "white")
    for index in range(len(gallery.examples)):
        top = HEAD + index * rows + CAPTION
        for column, tile in enumerate(tiles(gallery, index, factor)):
            left = GAP + column * (1 + GAP)
            pixels = Image.fromarray(np.rint(255 * tile).astype(np.uint8))
            shown = pixels.resize((TILE, round(TILE * aspect)), Image.Resampling.NEAREST)
            picture.paste(shown, (round(TILE * left), round(TILE * top)))
    draw = ImageDraw.Draw(picture)
    for words in all_words(gallery, info, title):
        place, font = (TILE * words.x, TILE * words.y), _font(words.bold, words.size)
        draw.text(place, words.text, words.colour, font, anchor="mm" if words.centred else "lm")
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def all_words(gallery: Gallery, info: MetricInfo | None, title: str) -> list[Words]:
    """The title with the budget, the names of the columns, and the caption of each example."""
    rows, _ = _rows(gallery)
    found = [Words(f"{title} · {budget_label(gallery.epsilon, gallery.norm)}", GAP, 0.17, size=18, bold=True)]
    for column, head in enumerate(heads(gallery)):
        found.append(Words(head, GAP + column * (1 + GAP) + 0.5, 0.4, centred=True, colour="#444444"))
    for index, example in enumerate(gallery.examples):
        found.append(Words(caption(example, gallery.metric, info), GAP, HEAD + index * rows + CAPTION / 2))
    return found


def heads(gallery: Gallery) -> tuple[str, ...]:
    """The names of the five columns."""
    perturbation = f"perturbation \N{MULTIPLICATION SIGN} {magnification(gallery)}"
    return ("image", "perturbed", perturbation, "map, clean", "map, perturbed")


def _rows(gallery: Gallery) -> tuple[float, float]:
    """Heights in tiles: of a row with its caption, and of an image."""
    aspect = gallery.images.shape[2] / gallery.images.shape[3]
    return aspect + CAPTION + GAP, aspect


@cache
def _font(bold: bool, size: int) -> ImageFont.FreeTypeFont:
    """The font of the other figures, which comes with matplotlib."""
    return ImageFont.truetype(Path(mpl.get_data_path(), "fonts", "ttf", f"DejaVuSans{'-Bold' * bold}.ttf"), size)


def caption(example: dict[str, object], metric: str, info: MetricInfo | None) -> str:
    """The example, its label and prediction, and the metric of its perturbed map."""
    value = example["value"]
    shown = f"{value:.3f}" if isinstance(value, float | int) and not math.isnan(value) else "undefined"
    name = info.title if info else metric
    return (
        f"{example['role']}: {name} = {shown}  ·  example {example['example_id']}, "
        f"label {_class(example, 'label')}, predicted {_class(example, 'prediction')}"
    )


def _class(example: dict[str, object], key: str) -> str:
    """A class by its number, and its name if that says more; galleries from before names were stored have none."""
    number, name = str(example[key]), example.get(f"{key}_name")
    return number if name is None or name == number else f"{number} ({name})"


def magnification(gallery: Gallery) -> int:
    """The largest factor of `MAGNIFICATIONS` that keeps every pixel of the perturbation within [0, 1], centred at grey."""
    largest = float(np.abs(gallery.perturbed - gallery.images).max())
    return next((factor for factor in MAGNIFICATIONS if factor * largest <= 0.5), 1)


def tiles(gallery: Gallery, index: int, factor: int) -> list[np.ndarray]:
    """Five RGB images (H, W, 3) in [0, 1]; the two maps share one colour scale."""
    image, perturbed = gallery.images[index], gallery.perturbed[index]
    change = np.clip(0.5 + factor * (perturbed - image), 0.0, 1.0)
    maps = coloured(np.stack([gallery.clean_maps[index], gallery.perturbed_maps[index]]))
    return [*(rgb(array) for array in (image, perturbed, change)), maps[0], maps[1]]


def rgb(image: np.ndarray) -> np.ndarray:
    """(C, H, W) with 1 or 3 channels as (H, W, 3) in [0, 1]; other channel counts show their mean."""
    channels = image if image.shape[0] == 3 else image.mean(axis=0, keepdims=True).repeat(3, axis=0)
    shown: np.ndarray = np.clip(channels.transpose(1, 2, 0), 0.0, 1.0)
    return shown


def coloured(maps: np.ndarray) -> np.ndarray:
    """(2, H, W) maps as (2, H, W, 3) on one colour scale, clipped at the 99.5 % quantile; signed maps are centred at zero."""
    finite = maps[np.isfinite(maps)]
    scale = max(float(np.quantile(np.abs(finite), 0.995)), 1e-12) if finite.size else 1.0
    if (finite < 0).any():
        colours = mpl.colormaps["RdBu_r"](np.clip(0.5 + 0.5 * maps / scale, 0.0, 1.0))
    else:
        colours = mpl.colormaps["inferno"](np.clip(maps / scale, 0.0, 1.0))
    return np.asarray(colours, dtype=np.float64)[..., :3]
