"""Saliency, and input x gradient: the gradient of the target's output at the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from runner.attributions.gradients import weighted_gradients
from runner.attributions.options import GradientOptions


@dataclass(frozen=True, kw_only=True)
class Saliency(GradientOptions):
    """d f_c / dx (Simonyan et al., 2014); with `multiply_by_input`, x * d f_c / dx (Shrikumar et al., 2016)."""

    stochastic: ClassVar[bool] = False

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        """(N, C, H, W) signed maps, in units of output per unit of image; `keys` are not used."""
        maps = weighted_gradients(
            model, images, targets, keys, points=_itself, weights=[1.0], output=self.output, chunk=self.chunk
        )
        return maps * images if self.multiply_by_input else maps


def _itself(images: Tensor, keys: Tensor, first: int, count: int) -> Tensor:
    return images.unsqueeze(1)
