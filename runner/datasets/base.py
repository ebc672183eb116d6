"""The interface of datasets: two splits of labelled images, and the names of the classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from runner.core.errors import ConfigError, require
from runner.datasets.stratify import stratified_order

Device = torch.device | str
Indices = Tensor | Sequence[int]
Loaded = tuple[Tensor, Tensor, Tensor]
"""Images (n, C, H, W) float32 in [0, 1], labels (n,) int64, ids (n,) int64, all on one device."""


class Examples(Protocol):
    """One split, in memory (`Split`) or decoded on demand (`runner.datasets.lazy.LazySplit`)."""

    @property
    def labels(self) -> Tensor:
        """(N,) int64, on the CPU."""

    @property
    def ids(self) -> Tensor:
        """(N,) int64: the examples' numbers in the full split, which key their random numbers; on the CPU."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of its images."""

    def __len__(self) -> int:
        """Number of examples."""

    def take(self, size: int | None, seed: int) -> Self:
        """The first `size` (None: all) examples of a seeded stratified order: take(n) is a prefix of take(m), n < m."""

    def batch(self, indices: Indices, device: Device) -> Loaded:
        """The examples at these positions of this split (positions, not ids)."""

    def batches(self, plan: Iterable[Indices], device: Device) -> Iterator[Loaded]:
        """`batch` for each item of the plan; a split on disk reads one batch ahead."""


@dataclass(frozen=True)
class Split:
    """A split in memory: images (N, C, H, W) uint8, labels (N,) int64, ids (N,) int64 (numbers in the full split)."""

    images: Tensor
    labels: Tensor
    ids: Tensor

    @classmethod
    def full(cls, images: Tensor, labels: Tensor) -> Split:
        """A whole split, its examples numbered in the order given."""
        return cls(images, labels.to(torch.int64), torch.arange(len(labels)))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of its images."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.labels)

    def take(self, size: int | None, seed: int) -> Split:
        """The first `size` examples of the stratified order of `seed`."""
        order = stratified_order(self.labels, self.ids, seed)[:size]
        return Split(self.images[order], self.labels[order], self.ids[order])

    def batch(self, indices: Indices, device: Device) -> Loaded:
        """The examples at these positions; pixels are moved to the device as bytes."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        return to_device(self.images[index], self.labels[index], self.ids[index], device)

    def batches(self, plan: Iterable[Indices], device: Device) -> Iterator[Loaded]:
        """`batch` for each item of the plan."""
        return (self.batch(indices, device) for indices in plan)


@dataclass(frozen=True)
class Dataset:
    """Train and test splits, each in its seeded stratified order, and the class names (label i is `classes[i]`)."""

    train: Examples
    test: Examples
    classes: tuple[str, ...]

    def training_split(self) -> Examples:
        """`train`, for a job that fits a model. Errors: `ConfigError` when the set is for evaluation only."""
        if len(self.train) == 0:
            raise ConfigError(
                "dataset: holds no training examples (evaluation only); set training.epochs=0 and model.weights, "
                "or choose a dataset with a training split"
            )
        return self.train

    def check(self, shape: Sequence[int], classes: int) -> None:
        """Compare the config with the data that was read. Errors: `ConfigError` naming the wrong key."""
        require(
            tuple(shape) == self.test.shape, "dataset.shape", list(shape), f"{list(self.test.shape)} for these images"
        )
        require(classes == len(self.classes), "dataset.classes", classes, f"{len(self.classes)} for these images")


def assemble(
    splits: tuple[Examples, Examples], classes: Sequence[str], sizes: tuple[int | None, int | None], seed: int
) -> Dataset:
    """Full (train, test) splits to a dataset of `dataset.train_size` and `dataset.test_size` examples (None: all)."""
    taken = []
    for split, size, key in zip(splits, sizes, ("dataset.train_size", "dataset.test_size"), strict=True):
        require(size is None or 0 < size <= len(split), key, size, f"null (all) or 1 to {len(split)}")
        taken.append(split.take(size, seed))
    return Dataset(taken[0], taken[1], tuple(classes))


def to_device(images: Tensor, labels: Tensor, ids: Tensor, device: Device) -> Loaded:
    """Bytes to floats in [0, 1], on the device."""
    return images.to(device).to(torch.float32).div_(255.0), labels.to(device), ids.to(device)
