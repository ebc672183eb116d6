"""Attribution maps inside a training step: which network they explain, and how far apart two of them are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from runner.core.norms import normalise
from runner.defenses.modes import evaluating

Explanation = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
"""(model, images, targets, keys) -> maps (N, C, H, W): an `Attribution` of runner.core.types."""

TwinFactory = Callable[[nn.Module, float], nn.Module]
"""(model, beta) -> the model with softplus of that beta in place of every ReLU, sharing the weights."""

Dissimilarity = Literal["cosine", "pearson"]


class Evaluated(nn.Module):
    """A model that is in evaluation mode during each of its forward passes, and only then.

    An attribution with bounded memory repeats forward passes during the backward pass of the loss, outside any context of the
    loss; batch normalisation must not be in training mode then.
    """

    def __init__(self, model: nn.Module) -> None:
        """Wrap `model`, which keeps its own mode."""
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the images."""
        with evaluating(self.model):
            logits: Tensor = self.model(images)
        return logits


def explained(model: nn.Module, twin: TwinFactory, beta: float | None) -> nn.Module:
    """The network whose maps are protected, in evaluation mode: the softplus twin, or the model itself if beta is null."""
    if beta is None:
        return Evaluated(model)
    with evaluating(model):
        return twin(model, beta)


def distance(first: Tensor, second: Tensor, kind: Dissimilarity) -> Tensor:
    """(N,) 1 - cosine similarity, or 1 - Pearson correlation, of maps (N, C, H, W); in [0, 2], and 1 for a map of zeros."""
    if kind == "pearson":
        first, second = (maps - maps.mean(dim=(1, 2, 3), keepdim=True) for maps in (first, second))
    return 1 - (normalise(first, "l2") * normalise(second, "l2")).flatten(1).sum(dim=1)


def pair_distance(
    attribution: Explanation,
    network: nn.Module,
    pair: tuple[Tensor, Tensor],
    targets: Tensor,
    keys: Tensor,
    kind: Dissimilarity,
) -> Tensor:
    """(N,) distances of the maps of a pair of image batches, differentiable in the parameters.

    Both batches go through the attribution together, with the same random numbers.
    """
    images = torch.cat(pair).detach().requires_grad_()  # maps of images that require no gradient are detached
    first, second = attribution(network, images, targets.repeat(2), keys.repeat(2)).chunk(2)
    return distance(first, second, kind)
