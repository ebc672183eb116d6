"""The worst, median and best example of a run: image, perturbed image, perturbation, and both maps."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from runner.report.data import Gallery, MetricInfo
from runner.report.naming import budget_label

GAP = 0.06
"""Space between tiles, in tiles."""
CAPTION = 0.26
"""Space for the caption above each row, in tiles."""
INCHES = 1.15
"""Side of a tile."""
MAGNIFICATIONS = (100, 50, 20, 10, 5, 2, 1)


def gallery_figure(gallery: Gallery, info: MetricInfo | None, title: str) -> Figure:
    """A row of five tiles per example, with a caption above it."""
    factor = magnification(gallery)
    budget = budget_label(gallery.epsilon, gallery.norm)
    count = len(gallery.examples)
    aspect = gallery.images.shape[2] / gallery.images.shape[3]
    rows, width = aspect + CAPTION + GAP, 5 + 6 * GAP
    figure = Figure(figsize=(INCHES * width, INCHES * (count * rows + GAP + 0.5)))
    axis = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axis.axis("off")
    axis.text(0.0, -0.33, f"{title} · {budget}", fontsize=8.5, fontweight="bold", va="center")
    heads = ("image", "perturbed", f"perturbation \N{MULTIPLICATION SIGN} {factor}", "map, clean", "map, perturbed")
    for column, head in enumerate(heads):
        axis.text(column * (1 + GAP) + 0.5, -0.1, head, fontsize=8, ha="center", va="center", color="#444444")
    for index, example in enumerate(gallery.examples):
        top = index * rows + CAPTION
        axis.text(0.0, top - CAPTION / 2, caption(example, gallery.metric, info), fontsize=8, va="center")
        for column, tile in enumerate(tiles(gallery, index, factor)):
            left = column * (1 + GAP)
            axis.imshow(tile, extent=(left, left + 1, top + aspect, top), interpolation="nearest", aspect="auto")
    axis.set(xlim=(-GAP, 5 + 5 * GAP), ylim=(count * rows + GAP, -0.5))
    return figure


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
