"""Objectives that are reported distances themselves: the cosine distance, and the ratio of SENS-MAX.

Both are written as the length of a difference, so that their gradient at the clean map is exactly zero. Otherwise it would be
rounding error, which the first step would scale to full size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from runner.attacks.objectives import Bound, Original


@dataclass(frozen=True)
class Cosine:
    """Raise the cosine distance 1 - <a, b> / (|a| |b|) = |a/|a| - b/|b||^2 / 2 from the clean map (cosd of Wang et al. 2020)."""

    reads_probabilities: ClassVar[bool] = False

    def bind(self, original: Original) -> Bound:
        """Distances are taken from the clean maps."""
        first = _unit(original.maps).detach()
        return lambda maps, probabilities: (_unit(maps) - first).square().sum(dim=1) / 2


@dataclass(frozen=True)
class L2Ratio:
    """Raise |b - a|_2 / |a|_2 of the unscaled maps: the ratio whose maximum in the ball is SENS-MAX (Yeh et al. 2019).

    If the clean map is zero, the divisor is 1, as in Captum's `sensitivity_max`.
    """

    reads_probabilities: ClassVar[bool] = False

    def bind(self, original: Original) -> Bound:
        """Ratios are relative to the lengths of the clean maps."""
        first = original.maps.flatten(1).detach()
        size = first.abs().amax(dim=1, keepdim=True)
        size = torch.where(size == 0, 1.0, size)
        length = (first / size).norm(dim=1)
        length = torch.where(length == 0, 1.0, length)
        return lambda maps, probabilities: ((maps.flatten(1) - first) / size).norm(dim=1) / length


def _unit(maps: Tensor) -> Tensor:
    """(N, P) of length 1; scaled by the largest entry first, so that squares neither overflow nor vanish. Zero stays zero."""
    flat, tiny = maps.flatten(1), torch.finfo(maps.dtype).tiny
    flat = flat / flat.detach().abs().amax(dim=1, keepdim=True).clamp_min(tiny)
    unit: Tensor = flat / flat.norm(dim=1, keepdim=True).clamp_min(tiny)
    return unit
