"""Shared by SmoothGrad and UniGrad: the gradient averaged over noisy copies of the image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from runner.attributions.gradients import weighted_gradients
from runner.attributions.options import GradientOptions, Scale, ranges
from runner.core import rng
from runner.core.errors import require_at_least


@dataclass(frozen=True, kw_only=True)
class NoisyGradient(GradientOptions, ABC):
    """mean over `samples` draws of df_c(p)/dp, p the image plus noise in units of `relative_to`; subclasses define the noise.

    Noisy images are not clamped to [0, 1]: clamping would shift the mean of the noise near 0 and 1.
    """

    samples: int = 50
    relative_to: Scale = "unit"
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("attribution.samples", self.samples, 1)

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        """(N, C, H, W) signed maps; the noise of an example depends on its key in `keys` (N,) alone."""
        weights = [1.0 / self.samples] * self.samples
        maps = weighted_gradients(
            model, images, targets, keys, points=self.points, weights=weights, output=self.output, chunk=self.chunk
        )
        return maps * images if self.multiply_by_input else maps

    def points(self, images: Tensor, keys: Tensor, first: int, count: int) -> Tensor:
        """(n, count, C, H, W) noisy images, samples first .. first+count-1; each sample has a key of its own."""
        samples, shape = rng.bits(keys, count, first).flatten(), tuple(images.shape[1:])
        noise = self.noise(samples, shape).to(images.dtype).reshape(-1, count, *shape)
        return images.unsqueeze(1) + self.size() * ranges(images, self.relative_to) * noise

    @abstractmethod
    def noise(self, keys: Tensor, shape: tuple[int, ...]) -> Tensor:
        """(M, *shape) noise of size 1, each from its key in `keys` (M,)."""

    @abstractmethod
    def size(self) -> float:
        """Size of the noise, in units of `relative_to`."""
