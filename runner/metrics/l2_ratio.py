"""Relative change of a map: the ratio whose largest value over a ball is SENS-MAX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from runner.core.types import Direction
from runner.metrics.undefined import of_values


@dataclass(frozen=True)
class L2Ratio:
    """||z' - z||_2 / ||z||_2 of the maps, neither centred nor scaled (Yeh et al., 2019, divided by the norm of the clean
    image's map, as in their released code and `captum.metrics.sensitivity_max`).

    A clean map of norm zero counts as one of norm 1, as in Captum: the value is then ||z'||_2, and nan if both maps are zero. Not
    symmetric. For the ratio of signed maps choose `metrics.reduction=sum`.
    """

    direction: ClassVar[Direction] = "lower"
    symmetric: ClassVar[bool] = False
    scale_invariant: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    unit: ClassVar[str] = ""

    def __call__(self, reference: Tensor, other: Tensor) -> Tensor:
        """Two (N, H, W) -> (N,) float64."""
        first, second = (maps.detach().flatten(1).double() for maps in (reference, other))
        norm, change = (torch.linalg.vector_norm(vectors, dim=1) for vectors in (first, second - first))
        return of_values(change / torch.where(norm == 0, 1.0, norm), reference, other)
