"""CIFAR-10 and CIFAR-100 (Krizhevsky, "Learning multiple layers of features from tiny images", 2009) by torchvision."""

from __future__ import annotations

from typing import Any

import torch

from runner.datasets.base import Dataset, Split, assemble
from runner.datasets.source import Source

CIFAR10 = Source("CIFAR10", "CIFAR-10", "the folder cifar-10-batches-py")
CIFAR100 = Source("CIFAR100", "CIFAR-100", "the folder cifar-100-python")


def cifar10(
    *, root: str, download: bool = False, train_size: int | None = None, test_size: int | None = None, seed: int = 0
) -> Dataset:
    """50,000 and 10,000 RGB images, 32x32, 10 classes, from ROOT/cifar-10-batches-py."""
    train, test = CIFAR10.load(root, download, {"train": True}, {"train": False})
    return assemble((_split(train), _split(test)), train.classes, (train_size, test_size), seed)


def cifar100(
    *, root: str, download: bool = False, train_size: int | None = None, test_size: int | None = None, seed: int = 0
) -> Dataset:
    """50,000 and 10,000 RGB images, 32x32, 100 classes, from ROOT/cifar-100-python."""
    train, test = CIFAR100.load(root, download, {"train": True}, {"train": False})
    return assemble((_split(train), _split(test)), train.classes, (train_size, test_size), seed)


def _split(part: Any) -> Split:
    return Split.full(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets))
