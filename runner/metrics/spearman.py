"""Spearman's rank correlation of two maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from runner.core.types import Direction
from runner.metrics.ranks import centred_ranks, in_groups
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
        return of_patterns(in_groups(_correlation, reference, other), reference, other)


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Two (N, P) -> (N,). The sums are of integers and exact."""
    ranks, other_ranks = (centred_ranks(values).double() for values in (first, second))
    product = (ranks * other_ranks).sum(dim=1)
    spread, other_spread = ranks.square().sum(dim=1), other_ranks.square().sum(dim=1)
    return (product / (spread * other_spread).sqrt().clamp_min(1.0)).clamp(-1.0, 1.0)
