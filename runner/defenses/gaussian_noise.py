"""Training on noisy images: the augmentation that randomised smoothing is trained with (Cohen et al., ICML 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from runner.core import rng
from runner.core.errors import require_at_least
from runner.core.types import Batch


@dataclass(frozen=True)
class GaussianNoise:
    """Mean cross-entropy of x + e, e ~ N(0, sigma^2), redrawn each epoch; sigma in units of [0, 1] images.

    Noisy images are not clamped to [0, 1]: clamping would shift the mean of the noise near 0 and 1.
    """

    sigma: float = 0.25

    def __post_init__(self) -> None:
        require_at_least("defense.sigma", self.sigma, 0)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean cross-entropy of the noisy images."""
        return F.cross_entropy(model(self.noisy(batch)), batch.labels), {}

    def noisy(self, batch: Batch) -> Tensor:
        """(N, C, H, W) noisy images; the noise of an example depends on its key alone."""
        noise = rng.normal(batch.keys, tuple(batch.images.shape[1:]))
        return batch.images + self.sigma * noise.to(batch.images.dtype)
