"""Penalty on the Frobenius norm of the input Hessian (Dombrowski et al., Pattern Recognition 121, 2022; arXiv 2012.10425).

E_v ||H v||^2 = trace(H^T H) = ||H||_F^2 for v with mean 0 and identity covariance, so the Hessian is never formed.
Shapes: N examples, S draws. images, gradient g and products H v of one draw (N, C, H, W); directions v (S, N, C, H, W).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runner.core import rng
from runner.core.errors import ConfigError, require_at_least
from runner.core.types import Batch
from runner.defenses.input_gradient import Scalar, gradient_of
from runner.defenses.modes import clean_pass, evaluating
from runner.defenses.regulariser import regularised


@dataclass(frozen=True)
class HessianFrobenius:
    """cross-entropy + weight * mean ||H||_F^2, estimated as E_v ||H v||^2 over `samples` draws of v ~ N(0, I).

    H is the Hessian in the [0, 1] image of the label's logit, whose gradient is the saliency map, or of the cross-entropy
    (`scalar: loss`). The logits of a ReLU network have no Hessian: use softplus.
    """

    weight: float = 1.6e-6
    samples: int = 1
    scalar: Scalar = "logit"

    def __post_init__(self) -> None:
        require_at_least("defense.weight", self.weight, 0)
        require_at_least("defense.samples", self.samples, 1)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The regularised loss; `penalty` before weighting."""
        return regularised(self, model, batch, self.weight)

    def penalty(self, model: nn.Module, batch: Batch) -> Tensor:
        """Unbiased estimate of the mean squared Frobenius norm, in evaluation mode.

        Errors: `ConfigError` when the Hessian of the logits is zero everywhere.
        """
        shape = tuple(batch.images.shape[1:])
        draws = [rng.normal(rng.fold(batch.keys, sample), shape) for sample in range(self.samples)]
        directions = torch.stack(draws).to(batch.images.dtype)
        with evaluating(model):
            products = hessian_products(model, batch.images, batch.labels, directions, self.scalar)
        if self.scalar == "logit" and not products.any():
            raise ConfigError(
                "defense.scalar=logit: the logits have no Hessian; take model.activation=softplus or loss"
            )
        return products.flatten(2).square().sum(dim=2).mean()


def hessian_products(
    model: nn.Module, images: Tensor, labels: Tensor, directions: Tensor, scalar: Scalar = "logit"
) -> Tensor:
    """(S, N, C, H, W) Hessian of each example's scalar times directions of that shape, differentiable in the parameters.

    One forward and one backward pass, and one more backward pass per direction.
    """
    leaf, logits = clean_pass(model, images)
    gradient = gradient_of(leaf, logits, labels, scalar)
    return torch.stack([_product(gradient, leaf, direction) for direction in directions])


def _product(gradient: Tensor, leaf: Tensor, direction: Tensor) -> Tensor:
    """By the symmetry of H, the gradient of g . v is H v; zero where g does not depend on the image."""
    with torch.enable_grad():
        along = (gradient * direction).sum()
        (product,) = torch.autograd.grad(along, leaf, create_graph=True, allow_unused=True, materialize_grads=True)
    return product
