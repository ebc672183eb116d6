"""Projected gradient ascent: start, step, normalise, project. Every gradient attack of this project is this loop.

Madry et al. (2018) for the l2 and linf steps; Adam (Kingma and Ba 2015) for the form without a budget of Dombrowski et al.
(2019).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from runner.core import rng
from runner.core.errors import require, require_at_least, require_positive
from runner.core.norms import normalise, project, sample_ball
from runner.core.types import PixelNorm

Objective = Callable[[Tensor, int], Tensor]
"""(images, step) -> (N,) values to raise, differentiable in the images."""

Visit = Callable[[Tensor], None]
"""Called with every iterate, which lies inside the ball and the box."""


@dataclass(frozen=True)
class ProjectedGradient:
    """Raise an objective inside a ball around clean images.

    `step_size` is relative to epsilon; null means 2.5 / steps (Madry et al.). `update: adam` takes Adam steps of the
    absolute size `step_size` instead, which needs no budget.
    """

    steps: int = 7
    step_size: float | None = None
    random_start: bool = False
    update: Literal["normalised", "adam"] = "normalised"

    def __post_init__(self) -> None:
        require_at_least("attack.steps", self.steps, 1)
        require_positive("attack.step_size", self.step_size, "above 0, or null")
        require(
            self.update != "adam" or self.step_size is not None, "attack.step_size", None, "a number with update=adam"
        )

    def __call__(
        self,
        objective: Objective,
        clean: Tensor,
        epsilon: float,
        norm: PixelNorm,
        keys: Tensor,
        start: Tensor | None = None,
        visit: Visit | None = None,
    ) -> Tensor:
        """The last iterate (N, C, H, W), from `start` (default: the clean images) or from a random point."""
        images = self.begin(clean if start is None else start, clean, epsilon, norm, keys)
        first, second = torch.zeros_like(images), torch.zeros_like(images)
        for step in range(self.steps):
            gradient = leave_flat(ascent_direction(objective, images, step), rng.fold(keys, step + 1))
            if self.update == "adam":
                delta = _adam(gradient, first, second, step) * float(self.step_size or 0.0)
            else:
                delta = normalise(gradient, norm) * self.length(epsilon, step)
            images = project(images + delta, clean, epsilon, norm)
            if visit is not None:
                visit(images)
        return images

    def length(self, epsilon: float, step: int) -> float:
        """Length of a step. Errors: `ConfigError` for an infinite budget, unless with Adam."""
        require(epsilon != float("inf"), "epsilon.values", "inf", "finite unless attack.update=adam")
        return epsilon * (self.step_size or 2.5 / self.steps)

    def begin(self, start: Tensor, clean: Tensor, epsilon: float, norm: PixelNorm, keys: Tensor) -> Tensor:
        """`start`, or a point drawn uniformly from the ball around the clean images."""
        if not self.random_start or epsilon == float("inf"):
            return start.detach()
        noise = sample_ball(rng.fold(keys, 0), tuple(clean.shape[1:]), epsilon, norm)
        return project(clean + noise.to(clean.dtype), clean, epsilon, norm)


def ascent_direction(objective: Objective, images: Tensor, step: int) -> Tensor:
    """Gradient of the summed objective; examples do not influence each other. Non-finite entries count as zero."""
    return values_and_direction(objective, images, step)[1]


def values_and_direction(objective: Objective, images: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """The objective (N,) at these images, and its gradient as `ascent_direction` gives it."""
    leaf = images.detach().requires_grad_(True)
    with torch.enable_grad():
        values = objective(leaf, step)
        if not values.requires_grad:  # the map does not depend on the images, as for a linear model
            return values, torch.zeros_like(images)
        (gradient,) = torch.autograd.grad(values.sum(), leaf, allow_unused=True, materialize_grads=True)
    return values.detach(), torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)


def leave_flat(gradients: Tensor, keys: Tensor) -> Tensor:
    """The gradients, with a random direction for examples whose gradient is zero.

    A distance from the clean map has a zero gradient at the clean image, where most searches start; they could not leave it.
    """
    flat = gradients.flatten(1).abs().amax(dim=1) == 0
    if not flat.any():
        return gradients
    noise = rng.normal(keys, tuple(gradients.shape[1:])).to(gradients.dtype)
    return torch.where(flat.reshape(-1, *([1] * (gradients.dim() - 1))), noise, gradients)


def _adam(gradient: Tensor, first: Tensor, second: Tensor, step: int) -> Tensor:
    """One Adam direction with the usual decay rates 0.9 and 0.999; the moments are updated in place."""
    first.mul_(0.9).add_(gradient, alpha=0.1)
    second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
    return (first / (1 - 0.9 ** (step + 1))) / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
