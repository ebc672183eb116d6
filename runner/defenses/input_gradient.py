"""Penalty on the input gradient: double backpropagation (Drucker and LeCun, IEEE Trans. Neural Networks 3(6), 1992)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.core.errors import require_at_least
from runner.core.types import Batch
from runner.defenses.modes import clean_pass, evaluating
from runner.defenses.regulariser import regularised

Scalar = Literal["loss", "logit"]
"""What is differentiated: the cross-entropy of the label, or the label's logit."""


@dataclass(frozen=True)
class InputGradient:
    """cross-entropy + weight * mean ||g||_2^2, g the gradient of an example's own cross-entropy in its [0, 1] image.

    `squared: false` penalises ||g||_2 instead. The factor 1/2 of Drucker and LeCun belongs in `weight`.
    """

    weight: float = 0.05
    squared: bool = True

    def __post_init__(self) -> None:
        require_at_least("defense.weight", self.weight, 0)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The regularised loss; `penalty` before weighting."""
        return regularised(self, model, batch, self.weight)

    def penalty(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean (squared) norm of the gradient, in evaluation mode."""
        with evaluating(model):
            gradient = input_gradient(model, batch.images, batch.labels)
        return sizes(gradient, self.squared).mean()


def input_gradient(
    model: nn.Module, images: Tensor, labels: Tensor, scalar: Scalar = "loss", *, create_graph: bool = True
) -> Tensor:
    """(N, C, H, W) gradient of each example's scalar in its image.

    With `create_graph` it is differentiable in the parameters, and in the images if these require gradients.
    """
    leaf, logits = clean_pass(model, images)
    return gradient_of(leaf, logits, labels, scalar, create_graph=create_graph)


def gradient_of(
    leaf: Tensor, logits: Tensor, labels: Tensor, scalar: Scalar = "loss", *, create_graph: bool = True
) -> Tensor:
    """The same, of a pass from the images `leaf` to their logits, whose graph is kept."""
    with torch.enable_grad():
        if scalar == "loss":
            total = F.cross_entropy(logits, labels, reduction="sum")
        else:
            total = logits.gather(1, labels.unsqueeze(1)).sum()
        (gradient,) = torch.autograd.grad(total, leaf, create_graph=create_graph, retain_graph=True)
    return gradient


def sizes(vectors: Tensor, squared: bool) -> Tensor:
    """(N,) l2 norms of (N, ...) vectors, or their squares; the gradient at a zero vector is zero."""
    flat = vectors.flatten(1)
    return flat.square().sum(dim=1) if squared else flat.norm(dim=1)
