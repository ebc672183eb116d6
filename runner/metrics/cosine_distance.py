"""Cosine distance of two maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from runner.core.types import Direction
from runner.metrics.undefined import of_values


@dataclass(frozen=True)
class CosineDistance:
    """1 - <a, b> / (|a| |b|), as `scipy.spatial.distance.cosine`.

    A zero map has no direction: a zero map and another are at distance 1 (as if orthogonal), and two zero maps have none (nan).
    Non-negative maps stay in [0, 1]; signed ones (`metrics.reduction=sum`) reach 2.
    """

    direction: ClassVar[Direction] = "lower"
    range: ClassVar[tuple[float, float]] = (0.0, 2.0)
    unit: ClassVar[str] = ""

    def __call__(self, reference: Tensor, other: Tensor) -> Tensor:
        """Two (N, H, W) -> (N,) float64."""
        first, second = (_scaled(maps) for maps in (reference, other))
        square, other_square = first.square().sum(dim=1), second.square().sum(dim=1)
        scale = (square * other_square).sqrt().clamp_min(torch.finfo(torch.float64).tiny)
        distance = 1.0 - (first * second).sum(dim=1) / scale
        return of_values(distance.clamp(0.0, 2.0), reference, other)


def _scaled(maps: Tensor) -> Tensor:
    """(N, P) float64 with largest magnitude 1, so that squares neither overflow nor vanish; zero stays zero."""
    flat = maps.detach().flatten(1).double()
    return flat / flat.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
