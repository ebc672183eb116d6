"""Street View House Numbers, cropped (Netzer et al., "Reading digits in natural images", 2011), by torchvision."""

from __future__ import annotations

from typing import Any

import torch

from runner.datasets.base import Dataset, Split, assemble
from runner.datasets.source import Source

SVHN = Source("SVHN", "SVHN", "train_32x32.mat and test_32x32.mat")


def svhn(
    *, root: str, download: bool = False, train_size: int | None = None, test_size: int | None = None, seed: int = 0
) -> Dataset:
    """73,257 and 26,032 RGB images, 32x32, 10 classes, from ROOT/train_32x32.mat and ROOT/test_32x32.mat."""
    train, test = SVHN.load(root, download, {"split": "train"}, {"split": "test"})
    return assemble((_split(train), _split(test)), [str(digit) for digit in range(10)], (train_size, test_size), seed)


def _split(part: Any) -> Split:
    return Split.full(torch.from_numpy(part.data), torch.from_numpy(part.labels))
