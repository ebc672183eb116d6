"""Pearson correlation of two maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from runner.core.types import Direction
from runner.metrics.undefined import of_patterns


@dataclass(frozen=True)
class Pearson:
    """cov(a, b) / (std a * std b) over the pixels, as `scipy.stats.pearsonr`; PCC in Dombrowski et al. (2019).

    A constant map has no correlation, and scipy answers nan. So do two constant maps here; a constant against a varying map gives 0
    (no pattern is left to agree with).
    """

    direction: ClassVar[Direction] = "higher"
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    unit: ClassVar[str] = ""

    def __call__(self, reference: Tensor, other: Tensor) -> Tensor:
        """Two (N, H, W) -> (N,) float64."""
        first, second = (_centred(maps) for maps in (reference, other))
        spread, other_spread = first.square().sum(dim=1), second.square().sum(dim=1)
        scale = (spread * other_spread).sqrt().clamp_min(torch.finfo(torch.float64).tiny)
        return of_patterns(((first * second).sum(dim=1) / scale).clamp(-1.0, 1.0), reference, other)


def _centred(maps: Tensor) -> Tensor:
    """(N, P) float64 with mean 0 and largest magnitude of about 1."""
    flat = maps.detach().flatten(1).double()
    centred = flat - flat.mean(dim=1, keepdim=True)
    return centred / centred.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
