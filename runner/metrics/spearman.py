"""Spearman's rank correlation of two maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from runner.core.types import Direction
from runner.metrics.ranks import average_ranks
from runner.metrics.undefined import of_patterns


@dataclass(frozen=True)
class Spearman:
    """Pearson correlation of the average ranks, as `scipy.stats.spearmanr`.

    A constant map has no order, and scipy answers nan. So do two constant maps here; a constant against a varying map gives 0 (no
    order is left to agree with).
    """

    direction: ClassVar[Direction] = "higher"
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    unit: ClassVar[str] = ""

    def __call__(self, reference: Tensor, other: Tensor) -> Tensor:
        """Two (N, H, W) -> (N,) float64."""
        first, second = (_centred_ranks(maps) for maps in (reference, other))
        product = (first * second).sum(dim=1)
        spread, other_spread = first.square().sum(dim=1), second.square().sum(dim=1)
        correlation = product / (spread * other_spread).sqrt().clamp_min(torch.finfo(torch.float64).tiny)
        return of_patterns(correlation.clamp(-1.0, 1.0), reference, other)


def _centred_ranks(maps: Tensor) -> Tensor:
    ranks = average_ranks(maps.detach().flatten(1))
    return ranks - (ranks.shape[1] - 1) / 2
