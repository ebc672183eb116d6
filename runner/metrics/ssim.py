"""Structural similarity of two maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from runner.core.types import Direction
from runner.metrics.undefined import of_values

_SIGMA, _RADIUS = 1.5, 5
_C1, _C2 = 0.01**2, 0.03**2
"""(K1 L)^2 and (K2 L)^2 of Wang et al., with L = 1, the range of scaled maps."""


@dataclass(frozen=True)
class StructuralSimilarity:
    """Mean SSIM (Wang et al., 2004): Gaussian window of 11 x 11 with sigma 1.5, K1 = 0.01, K2 = 0.03, population moments.

    Both maps of an example are scaled to [0, 1] by one range, from the smallest to the largest value in either, so that a
    change of scale counts; two equal constant maps give 1, and two zero maps nan. The mean is over the places where the window lies
    inside the map, as in `skimage.metrics.structural_similarity(gaussian_weights=True, use_sample_covariance=False, data_range=1)`.
    On maps with a side under 11 the window is cut to the largest odd side that fits (scikit-image refuses them).
    """

    direction: ClassVar[Direction] = "higher"
    scale_invariant: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    unit: ClassVar[str] = ""

    def __call__(self, reference: Tensor, other: Tensor) -> Tensor:
        """Two (N, H, W) -> (N,) float64."""
        first, second = _to_common_range(reference.detach().double(), other.detach().double())
        moments = torch.stack((first, second, first * first, second * second, first * second))
        mean, other_mean, square, other_square, product = _blur(moments)
        variance, other_variance = square - mean * mean, other_square - other_mean * other_mean
        covariance = product - mean * other_mean
        above = (2 * mean * other_mean + _C1) * (2 * covariance + _C2)
        below = (mean * mean + other_mean * other_mean + _C1) * (variance + other_variance + _C2)
        return of_values((above / below).mean(dim=(1, 2)).clamp(-1.0, 1.0), reference, other)


def _to_common_range(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    both = torch.stack((first, second))
    low, high = both.amin(dim=(0, 2, 3)), both.amax(dim=(0, 2, 3))
    span = torch.where(high == low, 1.0, high - low)
    scaled = (both - low[:, None, None]) / span[:, None, None]
    return scaled[0], scaled[1]


def _blur(maps: Tensor) -> Tensor:
    """(M, N, H, W) -> (M, N, h, w): Gaussian means, where the window lies inside the map."""
    height, width = maps.shape[2:]
    radius = min(_RADIUS, (min(height, width) - 1) // 2)
    offsets = torch.arange(-radius, radius + 1, dtype=maps.dtype, device=maps.device)
    weights = torch.exp(-0.5 * (offsets / _SIGMA).square())
    weights = weights / weights.sum()
    rows = conv2d(maps.flatten(0, 1).unsqueeze(1), weights.reshape(1, 1, -1, 1))
    return conv2d(rows, weights.reshape(1, 1, 1, -1)).reshape(*maps.shape[:2], height - 2 * radius, width - 2 * radius)
