"""Mean squared error of two maps that sum to 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from runner.core.types import Direction
from runner.metrics.undefined import of_values


@dataclass(frozen=True)
class MeanSquaredError:
    """mean over pixels of (a - b)^2 with a = |z| / sum |z|, the maps of Dombrowski et al. (2019), which sum to 1.

    The value shrinks with the number of pixels P: the largest is 2 / P, for maps of one pixel each, so values of different image
    sizes cannot be compared. A zero map counts as uniform against another map; two zero maps give nan. The absolute value changes
    nothing for the usual non-negative maps.
    """

    direction: ClassVar[Direction] = "lower"
    range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    unit: ClassVar[str] = ""

    def __call__(self, reference: Tensor, other: Tensor) -> Tensor:
        """Two (N, H, W) -> (N,) float64."""
        return of_values((_shares(reference) - _shares(other)).square().mean(dim=1), reference, other)


def _shares(maps: Tensor) -> Tensor:
    """(N, P) float64, each row non-negative with sum 1."""
    mass = maps.detach().flatten(1).double().abs()
    peak = mass.amax(dim=1, keepdim=True)
    mass = torch.where(peak == 0, 1.0, mass / peak.clamp_min(torch.finfo(torch.float64).tiny))
    return mass / mass.sum(dim=1, keepdim=True)
