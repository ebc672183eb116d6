"""The gallery: the worst, median and best example of an attack at its largest budget, as a file and as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from runner.attacking.chunk import Chunk
from runner.attacking.setup import Setup
from runner.store import files


def write_gallery(setup: Setup, chunks: Sequence[Chunk], rows: pd.DataFrame, file: Path) -> None:
    """Write images, perturbed images and both maps of three examples, described in JSON metadata.

    Examples whose metric is undefined are shown only if it is for all of them; their value is then null.
    """
    metric = setup.attack.measure if setup.attack.measure in setup.metrics else next(iter(setup.metrics))
    last = rows[rows.epsilon == rows.epsilon.max()].reset_index(drop=True)
    shown = last[metric].dropna() if last[metric].notna().any() else last[metric]
    order = shown.sort_values(ascending=setup.metrics[metric].direction == "higher", kind="stable").index
    chosen = {"worst": order[0], "median": order[len(order) // 2], "best": order[-1]}
    assert setup.run is not None  # only jobs draw galleries
    names = setup.run.parts.dataset.classes
    examples = [
        {
            "role": role,
            "example_id": int(last.example_id[index]),
            "label": int(last.label[index]),
            "label_name": names[last.label[index]],
            "prediction": int(last.clean_prediction[index]),
            "prediction_name": names[last.clean_prediction[index]],
            "value": None if pd.isna(last[metric][index]) else float(last[metric][index]),
        }
        for role, index in chosen.items()
    ]
    about = {
        "epsilon": float(last.epsilon[0]),
        "norm": setup.norm,
        "metric": metric,
        "examples": examples,
    }
    picked = [_tensors(chunks, index) for index in chosen.values()]
    tensors = {name: torch.stack([item[name] for item in picked]) for name in picked[0]}
    files.write_tensors(file, tensors, {"gallery": json.dumps(about)})


def _tensors(chunks: Sequence[Chunk], position: int) -> dict[str, Tensor]:
    """Image, perturbed image and both maps of the example at a position in the evaluated order."""
    chunk = chunks[position // len(chunks[0].ids)]
    place = position % len(chunks[0].ids)
    assert chunk.best is not None
    tensors = {
        "images": chunk.images,
        "perturbed": chunk.best.images,
        "clean_maps": chunk.clean_maps,
        "perturbed_maps": chunk.maps(chunk.best.images, clean=False),
    }
    return {name: tensor[place].cpu() for name, tensor in tensors.items()}


def draw_gallery(setup: Setup, file: Path) -> Path:
    """Draw a gallery file as a PNG next to it; returns the path of the PNG."""
    from runner.report.figures.gallery import gallery_png  # late: it needs the colours of matplotlib
    from runner.report.load import read_gallery
    from runner.report.naming import curve_name

    columns = setup.columns
    title = f"{curve_name(columns)} · {columns['attribution']}, {columns['attack']} attack · seed {columns['seed']}"
    picture = gallery_png(read_gallery(file, columns), None, title)
    with files.replacing(file.with_suffix(".png")) as temporary:
        temporary.write_bytes(picture)
    return file.with_suffix(".png")
