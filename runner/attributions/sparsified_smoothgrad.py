"""Sparsified SmoothGrad: how often, under Gaussian noise, a feature is among those with the largest gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from runner.attributions.options import amount
from runner.attributions.passes import Output, output_gradients, summed
from runner.attributions.smoothgrad import SmoothGrad
from runner.core.errors import require, require_positive
from runner.core.grid import Number, exact

Features = Literal["values", "pixels"]
Relaxation = Literal["sigmoid", "clipped_linear"]
_FLOOR = 1e-20


@dataclass(frozen=True, kw_only=True)
class SparsifiedSmoothGrad:
    """mean over `samples` draws of 1[|df_c(x + e)/dx| is among the largest tau * n], e ~ N(0, sigma^2) (Levine et al., 2019).

    c is the given class at every draw, which the certificate needs (the released code takes the largest logit of each
    noisy image). `features`: the n features are all C*H*W `values`, or the `pixels`, by the sum of |.| over channels.
    Features without a gradient are never among the largest, and `sigma` is in units of [0, 1] images.

    The indicator has no gradient. `relaxation` gives it one for attacks without changing its value: the backward pass
    differentiates s(a / t) instead, with a = |gradient| and t the mean of the smallest value among the largest and the next
    value. `sigmoid`: s(u) = 1 / (1 + exp((1 - u) / temperature)); `clipped_linear`: min(u, 1), which the released code averages
    when it needs a gradient. Like the indicator, both ignore the scale of the gradient, since t is differentiated too. Without a
    relaxation (null), attacks that need gradients are rejected.
    """

    output: Output = "logit"
    samples: int = 50
    sigma: Number = 0.2
    tau: Number = 0.1
    features: Features = "values"
    relaxation: Relaxation | None = "sigmoid"
    temperature: float = 0.2
    chunk: int | None = None
    stochastic: ClassVar[bool] = True
    exact_gradient: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _ = self.noise
        share = amount("attribution.tau", self.tau)
        require(0 < share <= 1, "attribution.tau", self.tau, "a share of the features, above 0 and at most 1")
        require_positive("attribution.temperature", self.temperature)

    @property
    def differentiable(self) -> bool:
        """Whether attacks that need the gradient of the map are allowed."""
        return self.relaxation is not None

    @property
    def noise(self) -> SmoothGrad:
        """The SmoothGrad whose points are used; also checks the common options."""
        return SmoothGrad(output=self.output, samples=self.samples, sigma=self.sigma, chunk=self.chunk)

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        """(N, C, H, W) maps in [0, 1]; with `features: pixels` each channel has an equal share, and their sum is in [0, 1]."""
        noise, channels = self.noise, images.shape[1]

        def one_pass(chosen: Tensor, part: slice, first: int, count: int, create_graph: bool) -> Tensor:
            places = noise.points(chosen, keys[part], first, count)
            sizes = output_gradients(model, places, targets[part], self.output, create_graph).abs()
            if self.features == "pixels":
                sizes = sizes.sum(dim=2, keepdim=True)
            return self.chosen(sizes.flatten(2)).reshape(sizes.shape).sum(dim=1)

        maps = summed(model, images, self.samples, self.chunk, one_pass) / self.samples
        return maps.expand(-1, channels, -1, -1) / channels if self.features == "pixels" else maps

    def chosen(self, sizes: Tensor) -> Tensor:
        """(..., n) sizes >= 0 -> 1 at the largest tau * n of each row (rounded down, at least one), else 0."""
        count = max(1, int(exact(self.tau, "attribution.tau") * sizes.shape[-1]))
        hard = largest(sizes.detach(), count)
        if not sizes.requires_grad or self.relaxation is None:
            return hard
        soft = self.surrogate(sizes, count)
        return hard + (soft - soft.detach())

    def surrogate(self, sizes: Tensor, count: int) -> Tensor:
        """(..., n) -> (..., n) the relaxation that the backward pass differentiates instead of the indicator."""
        ordered = sizes.topk(min(count + 1, sizes.shape[-1]), dim=-1).values
        threshold = (ordered[..., count - 1 : count] + ordered[..., -1:]) / 2
        relative = sizes / threshold.clamp_min(_FLOOR)
        if self.relaxation == "clipped_linear":
            return relative.clamp(max=1.0)
        return ((relative - 1) / self.temperature).sigmoid()


def largest(sizes: Tensor, count: int) -> Tensor:
    """1 at the `count` largest of each row (..., n), the first of equals, else 0; always 0 at a size of 0."""
    last = sizes.topk(count, dim=-1).values[..., -1:]
    above, level = sizes > last, sizes == last
    room = count - above.sum(dim=-1, keepdim=True)
    return ((above | (level & (level.cumsum(dim=-1) <= room))) & (sizes > 0)).to(sizes.dtype)
