"""UniGrad: the gradient averaged over uniform noise on the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from runner.attributions.noisy import NoisyGradient
from runner.attributions.options import amount
from runner.core import norms
from runner.core.grid import Number
from runner.core.types import Norm

Shape = Literal["cube", "ball"]
_NORMS: dict[Shape, Norm] = {"cube": "linf", "ball": "l2"}


@dataclass(frozen=True, kw_only=True)
class UniformGradient(NoisyGradient):
    """x * mean over `samples` draws of df_c(p)/dp, p uniform around x (Wang et al., NeurIPS 2020).

    `shape`: cube draws x + U(-1, 1) * radius in each pixel, as the released code does; ball draws from the l2 ball of
    `radius`. `radius` is a share of the range of [0, 1] images (`relative_to: unit`) or of each image's max - min
    (`image`). Without `multiply_by_input`, the factor x is left out.
    """

    multiply_by_input: bool = True
    radius: Number = 0.2
    shape: Shape = "cube"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.size()

    def noise(self, keys: Tensor, shape: tuple[int, ...]) -> Tensor:
        """(M, *shape) uniform numbers of the cube or the ball of radius 1."""
        return norms.sample_ball(keys, shape, 1.0, _NORMS[self.shape])

    def size(self) -> float:
        """Radius."""
        return amount("attribution.radius", self.radius)
