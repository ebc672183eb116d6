"""An objective that lowers a smooth form of Spearman's rank correlation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from runner.attacks.objectives import Bound, Original, shares
from runner.core.errors import require_at_least, require_positive


@dataclass(frozen=True)
class SoftSpearman:
    """Raise 1 - r, with r the Pearson correlation of the soft ranks of the map and of the clean map.

    The soft rank of a pixel is the sum over thresholds c of sigmoid((z - c) / t), with z the map that sums to 1. With the
    values of all pixels as thresholds this is the pairwise soft rank of Qin, Liu and Li (2010); as t falls to 0, it approaches the
    average rank, and r Spearman's correlation. `levels` thresholds, evenly spaced among the sorted values, bound the memory to
    pixels * levels per example; null takes all pixels.
    `temperature` is t in units of the clean map's standard deviation.
    """

    temperature: float = 0.1
    levels: int | None = 64
    reads_probabilities: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_positive("attack.objective.temperature", self.temperature)
        require_at_least("attack.objective.levels", self.levels, 2)

    def bind(self, original: Original) -> Bound:
        """Ranks are compared with those of the clean maps."""
        clean = shares(original.maps).flatten(1).detach()
        scale = self.temperature * clean.std(dim=1, keepdim=True).clamp_min(torch.finfo(clean.dtype).tiny)
        first = self._standardised(clean, scale)

        def value(maps: Tensor, probabilities: Tensor) -> Tensor:
            return (self._standardised(shares(maps).flatten(1), scale) - first).square().sum(dim=1) / 2

        return value

    def ranks(self, values: Tensor, scale: Tensor) -> Tensor:
        """(N, P) soft ranks of values (N, P); `scale` (N, 1) is the width of a step in units of the values."""
        ordered = values.sort(dim=1).values
        pixels = values.shape[1]
        levels = pixels if self.levels is None else min(self.levels, pixels)
        places = ((torch.arange(levels, device=values.device) + 0.5) * (pixels / levels)).long()
        thresholds = ordered[:, places]
        steps = torch.sigmoid((values.unsqueeze(2) - thresholds.unsqueeze(1)) / scale.unsqueeze(2))
        return steps.sum(dim=2) * (pixels / levels)

    def _standardised(self, values: Tensor, scale: Tensor) -> Tensor:
        """(N, P) soft ranks of mean 0 and length 1."""
        ranks = self.ranks(values, scale)
        centred = ranks - ranks.mean(dim=1, keepdim=True)
        unit: Tensor = centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-6)
        return unit
