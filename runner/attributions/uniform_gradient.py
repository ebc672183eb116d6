"""UniGrad: the gradient averaged over uniform noise on the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from torch import Tensor, nn

from runner.attributions.gradients import weighted_gradients
from runner.attributions.options import GradientOptions, Scale, amount, ranges, require_count, require_scale
from runner.core import norms, rng
from runner.core.errors import ConfigError
from runner.core.grid import Number
from runner.core.types import Norm

Shape = Literal["cube", "ball"]
SHAPES: tuple[Shape, ...] = get_args(Shape)
_NORMS: dict[Shape, Norm] = {"cube": "linf", "ball": "l2"}


@dataclass(frozen=True, kw_only=True)
class UniformGradient(GradientOptions):
    """x * mean over `samples` draws of df_c(p)/dp, p uniform around x (Wang et al., NeurIPS 2020).

    `shape`: cube draws x + U(-1, 1) * radius in each pixel, as the released code does; ball draws from the l2 ball of
    `radius`. `radius` is a share of the range of [0, 1] images (`relative_to: unit`) or of each image's max - min
    (`image`). Noisy images are not clamped to [0, 1]. Without `multiply_by_input`, the factor x is left out.
    """

    multiply_by_input: bool = True
    samples: int = 50
    radius: Number = 0.2
    shape: Shape = "cube"
    relative_to: Scale = "unit"
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("attribution.samples", self.samples)
        amount("attribution.radius", self.radius)
        if self.shape not in SHAPES:
            raise ConfigError.choice("attribution.shape", self.shape, SHAPES)
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
        noise = norms.sample_ball(samples, tuple(images.shape[1:]), 1.0, _NORMS[self.shape])
        radius = amount("attribution.radius", self.radius) * ranges(images, self.relative_to)
        return images.unsqueeze(1) + radius * noise.to(images.dtype).reshape(-1, count, *images.shape[1:])
