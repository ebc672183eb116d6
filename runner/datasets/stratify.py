"""Stratified orders and splits that depend only on (seed, example): every subset is a prefix of the larger ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from runner.core import rng
from runner.core.errors import require

Whole = np.ndarray[Any, np.dtype[np.int64]]


def stratified_order(labels: Tensor, ids: Tensor, seed: int) -> Tensor:
    """(N,) positions: an order in which every prefix has the classes in their proportions, as closely as possible.

    Each class is shuffled; its r-th of n members gets the key (r + 1/2) / n (Webster's apportionment); ties are broken at random.
    With classes of equal size, each block of K examples contains each of the K classes once.
    """
    keys = rng.example_keys(seed, ids, "subset")
    by_class, ranks, counts = _shuffled_by_class(labels, keys)
    ties = rng.fold(keys, 0).numpy()[by_class]
    return torch.from_numpy(by_class[np.lexsort((ties, (ranks + 0.5) / counts))])


def stratified_split(
    labels: Tensor, seed: int, *, fraction: float | None = None, per_class: int | None = None
) -> tuple[Tensor, Tensor]:
    """Sorted positions (train, test): `per_class` examples, or the share `fraction`, of each class are for testing.

    A fraction of 1 makes a set for evaluation only. Errors: `ConfigError` unless exactly one rule is given, in range.
    """
    keys = rng.example_keys(seed, torch.arange(len(labels)), "split")
    by_class, ranks, counts = _shuffled_by_class(labels, keys)
    given = (fraction is None) != (per_class is None)
    require(given, "dataset.test_fraction", fraction, "given where dataset.test_per_class is null, and only there")
    if per_class is not None:
        smallest = int(counts.min()) if len(counts) else 0
        require(0 < per_class < smallest, "dataset.test_per_class", per_class, f"1 to {smallest - 1}")
        held = np.full_like(ranks, per_class)
    else:
        assert fraction is not None
        require(0.0 < fraction <= 1.0, "dataset.test_fraction", fraction, "above 0 and at most 1")
        held = np.rint(counts * fraction).astype(np.int64)
    is_test = ranks < held
    return torch.from_numpy(np.sort(by_class[~is_test])), torch.from_numpy(np.sort(by_class[is_test]))


def _shuffled_by_class(labels: Tensor, keys: Tensor) -> tuple[Whole, Whole, Whole]:
    """Positions sorted by class and, inside it, by key; the rank of each in its class; the size of its class."""
    values = labels.numpy()
    order = np.lexsort((keys.numpy(), values)).astype(np.int64)
    _, starts, inverse, counts = np.unique(values[order], return_index=True, return_inverse=True, return_counts=True)
    ranks = np.arange(len(order)) - starts[inverse]
    return order, ranks, counts[inverse]
