"""CAFO: the perturbation that raises the loss most to first order, sparse and small (Singla et al., ICML 2019).

Shapes: n examples of a pass, `count` noisy copies of each, D = C * H * W. places (n, count, C, H, W); gradients summed over
the copies (N, C, H, W), flat (N, D) where the problem is solved; its solution has the sign and order of the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runner.attributions.options import Scale, amount
from runner.attributions.passes import leaves, logits_at, margins, summed
from runner.attributions.smoothgrad import SmoothGrad
from runner.core.errors import require, require_at_least
from runner.core.grid import Number

Threshold = Literal["absolute", "relative"]


@dataclass(frozen=True, kw_only=True)
class Cafo:
    """argmax over D of g^T D - lambda1 ||D||_1 - lambda2 ||D||_2^2, which is soft(g, lambda1) / (2 lambda2).

    g is the gradient of the target's cross-entropy in the [0, 1] image, averaged over `samples` images with Gaussian noise
    of standard deviation `sigma` (in units of `relative_to`, as in SmoothGrad); `sigma: 0` with one sample is the image
    itself. `threshold`: lambda1 is `absolute`, or a share of each image's largest |g| (`relative`).
    """

    lambda1: Number = 1e-4
    lambda2: Number = 10.0
    threshold: Threshold = "absolute"
    samples: int = 16
    sigma: Number = 0.15
    relative_to: Scale = "image"
    multiply_by_input: bool = False
    chunk: int | None = None

    def __post_init__(self) -> None:
        amount("attribution.lambda1", self.lambda1)
        curvature = amount("attribution.lambda2", self.lambda2)
        require(curvature > 0, "attribution.lambda2", self.lambda2, "above 0")
        require_at_least("attribution.chunk", self.chunk, 1)
        _ = self.noise

    @property
    def stochastic(self) -> bool:
        """Whether there is noise."""
        return amount("attribution.sigma", self.sigma) > 0

    @property
    def noise(self) -> SmoothGrad:
        """The SmoothGrad whose points are used; also checks the noise options."""
        return SmoothGrad(samples=self.samples, sigma=self.sigma, relative_to=self.relative_to)

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        """(N, C, H, W) signed perturbations; the noise of an example depends on its key in `keys` (N,) alone."""

        def one_pass(chosen: Tensor, part: slice, first: int, count: int, create_graph: bool) -> Tensor:
            places = self.noise.points(chosen, keys[part], first, count)
            return loss_gradients(model, places, targets[part], create_graph).sum(dim=1) / self.samples

        gradients = summed(model, images, self.samples, self.chunk, one_pass).flatten(1)
        maps = soft(gradients, self.weight_l1(gradients)) / (2 * amount("attribution.lambda2", self.lambda2))
        maps = maps.reshape(images.shape)
        return maps * images if self.multiply_by_input else maps

    def weight_l1(self, gradients: Tensor) -> Tensor:
        """(n, 1) lambda1 of each example, from its gradient (n, D)."""
        weight = amount("attribution.lambda1", self.lambda1)
        if self.threshold == "absolute":
            return gradients.new_full((len(gradients), 1), weight)
        return weight * gradients.abs().amax(dim=1, keepdim=True)


def loss_gradients(model: nn.Module, places: Tensor, targets: Tensor, create_graph: bool) -> Tensor:
    """(n, count, C, H, W) gradients of the cross-entropy of the targets (n,) at `places` (n, count, C, H, W)."""
    with torch.enable_grad():
        flat = leaves(places, create_graph)
        losses = F.softplus(margins(logits_at(model, flat), targets.repeat_interleave(places.shape[1])))
        (gradients,) = torch.autograd.grad(losses.sum(), flat, create_graph=create_graph)
    return gradients.reshape(places.shape)


def soft(values: Tensor, threshold: Tensor) -> Tensor:
    """The proximal map of threshold * ||.||_1: moves every entry towards 0 by the threshold, but not beyond 0."""
    return values - values.clamp(-threshold, threshold)
