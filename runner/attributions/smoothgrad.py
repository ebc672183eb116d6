"""SmoothGrad: the gradient averaged over Gaussian noise on the image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from runner.attributions.noisy import NoisyGradient
from runner.attributions.options import amount
from runner.core import rng
from runner.core.grid import Number


@dataclass(frozen=True, kw_only=True)
class SmoothGrad(NoisyGradient):
    """mean over `samples` draws of df_c(x + e)/dx, e ~ N(0, sigma^2) (Smilkov et al., 2017).

    `sigma` is a share of the range of [0, 1] images (`relative_to: unit`, the definition with a constant sigma that the
    smoothness theorem needs) or of each image's max - min (`image`, as in the released code).
    """

    sigma: Number = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.size()

    def noise(self, keys: Tensor, shape: tuple[int, ...]) -> Tensor:
        """(M, *shape) standard normal numbers."""
        return rng.normal(keys, shape)

    def size(self) -> float:
        """Standard deviation."""
        return amount("attribution.sigma", self.sigma)
