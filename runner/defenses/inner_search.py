"""The inner maximisation of the defenses that protect maps: the ball, the adversary, and a frozen model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.core.errors import require_at_least, require_positive
from runner.core.grid import exact, require_budget
from runner.core.types import Batch, Norm
from runner.defenses.modes import evaluating

Objective = Callable[[Tensor, int], Tensor]
"""(images, step) -> (N,) values to raise, differentiable in the images."""


@dataclass(frozen=True, kw_only=True)
class InnerSearch:
    """A ball around each image, and the projected-gradient adversary that searches it.

    `attack` builds the adversary from `steps`, `step_size` (relative to epsilon; null is 2.5 / steps) and `random_start`.
    """

    epsilon: float | str
    norm: Norm
    attack: Callable[..., Callable[..., Tensor]]
    steps: int = 7
    step_size: float | None = None
    random_start: bool = True

    def __post_init__(self) -> None:
        require_budget("defense.epsilon", self.epsilon)
        require_at_least("defense.steps", self.steps, 1)
        require_positive("defense.step_size", self.step_size, "above 0, or null")

    def search(self, model: nn.Module, objective: Objective, images: Tensor, keys: Tensor) -> Tensor:
        """(N, C, H, W) images inside the ball and the box that raise `objective`, with the model frozen in evaluation mode."""
        epsilon = float(exact(self.epsilon, "defense.epsilon"))
        adversary = self.attack(steps=self.steps, step_size=self.step_size, random_start=self.random_start)
        with evaluating(model), frozen(model):
            return adversary(objective, images, epsilon, self.norm, keys).detach()


def label_loss(model: nn.Module, labels: Tensor) -> Objective:
    """The cross-entropy of each image, the objective of an adversary of the label."""
    return lambda images, step: F.cross_entropy(model(images), labels, reduction="none")


def mixed_entropy(
    model: nn.Module, batch: Batch, perturbed: Tensor, clean_weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """clean_weight * clean + (1 - clean_weight) * adversarial mean cross-entropy, and those of the two that were computed."""
    scalars: dict[str, Tensor] = {}
    loss = torch.zeros((), dtype=batch.images.dtype, device=batch.images.device)
    for name, images, share in (("clean", batch.images, clean_weight), ("adversarial", perturbed, 1 - clean_weight)):
        if share > 0:
            entropy = F.cross_entropy(model(images), batch.labels)
            loss, scalars[f"{name}_loss"] = loss + share * entropy, entropy.detach()
    return loss, scalars


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """The model with frozen parameters, whose gradients a search over images does not need."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield model
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
