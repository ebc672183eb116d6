"""SmoothGrad: the gradient averaged over Gaussian noise on the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from runner.attributions.gradients import weighted_gradients
from runner.attributions.options import GradientOptions, Scale, amount, ranges, require_count, require_scale
from runner.core import rng
from runner.core.grid import Number


@dataclass(frozen=True, kw_only=True)
class SmoothGrad(GradientOptions):
    """mean over `samples` draws of df_c(x + e)/dx, e ~ N(0, sigma^2) (Smilkov et al., 2017).

    `sigma` is a share of the range of [0, 1] images (`relative_to: unit`, the definition with a constant sigma that the
    smoothness theorem needs) or of each image's max - min (`image`, as in the released code). Noisy images are not
    clamped to [0, 1]: clamping would shift the mean of the noise near the box's walls.
    """

    samples: int = 50
    sigma: Number = 0.2
    relative_to: Scale = "unit"
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("attribution.samples", self.samples)
        amount("attribution.sigma", self.sigma)
        require_scale(self.relative_to)

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        """(N, C, H, W) signed maps; the noise of an example depends on its key in `keys` (N,) alone."""
        weights = [1.0 / self.samples] * self.samples
        maps = weighted_gradients(
            model, images, targets, keys, points=self.points, weights=weights, output=self.output, chunk=self.chunk
        )
        return maps * images if self.multiply_by_input else maps

    def points(self, images: Tensor, keys: Tensor, first: int, count: int) -> Tensor:
        """(n, count, C, H, W) noisy images, samples first .. first+count-1; each sample has a key of its own."""
        samples = rng.bits(keys, count, first).flatten()
        noise = rng.normal(samples, images.shape[1:]).to(images.dtype).reshape(-1, count, *images.shape[1:])
        sigma = amount("attribution.sigma", self.sigma) * ranges(images, self.relative_to)
        return images.unsqueeze(1) + sigma * noise
