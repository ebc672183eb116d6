"""Torchvision sets whose photos vary in size: GTSRB and Flowers-102, brought to one size and kept in the cache."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from runner.core.errors import ConfigError
from runner.datasets.base import Dataset, Split, assemble
from runner.datasets.cache import Decoded, cached
from runner.datasets.pictures import fingerprint
from runner.datasets.source import Source
from runner.datasets.tree import TEST, TRAIN
from runner.datasets.view import Fit, Pixels, View

_GTSRB_FILES = "the folder gtsrb (GTSRB/Training/CLASS/*.ppm, GTSRB/Final_Test/Images/*.ppm, GT-final_test.csv)"
GTSRB = Source("GTSRB", "GTSRB", _GTSRB_FILES)
FLOWERS102 = Source("Flowers102", "Flowers-102", "the folder flowers-102 (jpg/*.jpg, imagelabels.mat, setid.mat)")


def gtsrb(
    *,
    root: str,
    size: int,
    download: bool = False,
    fit: Fit = "stretch",
    train_size: int | None = None,
    test_size: int | None = None,
    seed: int = 0,
    cache: str | None = None,
) -> Dataset:
    """German traffic signs (Stallkamp et al. 2012): 26,640 and 12,630 photos of 43 classes, from ROOT/gtsrb."""
    view = View(size, None, fit)
    names = [f"{number:02d}" for number in range(43)]
    _refuse_strays(Path(root).expanduser() / "gtsrb" / "GTSRB" / "Training", [f"000{name}" for name in names])
    train, test = GTSRB.load(root, download, {"split": "train"}, {"split": "test"})
    key = _key(root, "gtsrb", view)
    decoded = cached(cache, "gtsrb", key, lambda: _decode([(train, TRAIN), (test, TEST)], view, names))
    return _dataset(decoded, (train_size, test_size), seed)


def flowers102(  # noqa: PLR0913  (one parameter a key of the YAML)
    *,
    root: str,
    size: int,
    download: bool = False,
    resize: int | None = None,
    fit: Fit = "crop",
    train_size: int | None = None,
    test_size: int | None = None,
    seed: int = 0,
    cache: str | None = None,
) -> Dataset:
    """Oxford Flowers-102 (Nilsback and Zisserman 2008): train + val (2,040) and test (6,149), from ROOT/flowers-102."""
    train, val, test = FLOWERS102.load(root, download, {"split": "train"}, {"split": "val"}, {"split": "test"})
    view = View(size, resize, fit)
    parts = [(train, TRAIN), (val, TRAIN), (test, TEST)]
    key = _key(root, "flowers-102", view)
    decoded = cached(cache, "flowers102", key, lambda: _decode(parts, view, train.classes))
    return _dataset(decoded, (train_size, test_size), seed)


def _refuse_strays(folder: Path, expected: Sequence[str]) -> None:
    """Refuse folders beside those of the classes, hidden ones too, and missing ones: torchvision numbers what is there."""
    found = {entry.name for entry in folder.iterdir() if entry.is_dir()} if folder.is_dir() else set(expected)
    for name in sorted(found.symmetric_difference(expected)):
        wrong = f"{name} is missing" if name in expected else f"{name} would change the labels of others: move it away"
        raise ConfigError(
            f"dataset.root: {folder} must hold the folders {expected[0]} to {expected[-1]} alone; {wrong}"
        )


def _key(root: str, folder: str, view: View) -> dict[str, Any]:
    source = Path(root).expanduser() / folder
    return {"source": str(source.resolve()), "state": fingerprint(source), "view": asdict(view)}


def _decode(parts: Sequence[tuple[Any, int]], view: View, names: Sequence[str]) -> Decoded:
    rows = [row for part, number in parts for row in _rows(part, view, number)]
    images = torch.from_numpy(np.stack([pixels for pixels, _, _ in rows]))
    labels, numbers = (torch.tensor([row[column] for row in rows]) for column in (1, 2))
    if (last := int(labels.max())) >= len(names):
        raise ConfigError(
            f"dataset.root: a photo has the class {last}; the last of the {len(names)} is {len(names) - 1}"
        )
    return Decoded(images, labels, numbers, tuple(names))


def _rows(part: Any, view: View, number: int) -> Iterable[tuple[Pixels, int, int]]:
    for index in range(len(part)):
        image, label = _item(part, index)
        yield view.arrange(image), int(label), number


def _item(part: Any, index: int) -> Any:
    """(image, label) of torchvision. Errors: `ConfigError` naming a file that is broken or no image."""
    try:
        return part[index]
    except Exception as error:  # a broken file raises anything in Pillow
        file = part._samples[index][0] if hasattr(part, "_samples") else part._image_files[index]
        raise ConfigError(f"dataset.root: {file} cannot be read as an image ({type(error).__name__})") from error


def _dataset(decoded: Decoded, sizes: tuple[int | None, int | None], seed: int) -> Dataset:
    where = [decoded.parts == TRAIN, decoded.parts == TEST]
    train, test = (Split.full(decoded.images[index], decoded.labels[index]) for index in where)
    return assemble((train, test), decoded.classes, sizes, seed)
