"""Mass centre shift: how far, in pixels, the centre of a map moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from runner.core.types import Direction
from runner.metrics.undefined import of_values


@dataclass(frozen=True)
class MassCenterShift:
    """||C(a) - C(b)||_2 with C = sum_ij z_ij (i, j) / sum_ij z_ij (Ghorbani et al., 2019), z = |map|.

    The absolute value changes nothing for the usual non-negative maps and keeps the centre of a signed one inside the
    image. A zero map counts as uniform against another map: its centre is the image's; two zero maps give nan. The largest shift is
    the diagonal of the image.
    """

    direction: ClassVar[Direction] = "lower"
    range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    unit: ClassVar[str] = "px"

    def __call__(self, reference: Tensor, other: Tensor) -> Tensor:
        """Two (N, H, W) -> (N,) float64, in pixels."""
        shift: Tensor = torch.linalg.vector_norm(_centre(reference) - _centre(other), dim=1)
        return of_values(shift, reference, other)


def _centre(maps: Tensor) -> Tensor:
    """(N, 2) row and column of the mass centre."""
    mass = maps.detach().double().abs()
    peak = mass.amax(dim=(1, 2), keepdim=True)
    mass = torch.where(peak == 0, 1.0, mass / peak.clamp_min(torch.finfo(torch.float64).tiny))
    total = mass.sum(dim=(1, 2))
    rows, columns = (torch.arange(size, dtype=torch.float64, device=maps.device) for size in maps.shape[1:])
    return torch.stack((mass.sum(dim=2) @ rows, mass.sum(dim=1) @ columns), dim=1) / total.unsqueeze(1)
