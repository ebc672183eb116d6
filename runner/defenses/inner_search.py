"""The inner maximum of the defenses that protect maps: their ball, their adversary, and what both may touch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.core.errors import ConfigError, require
from runner.core.grid import exact
from runner.core.types import NORMS, Batch, Norm
from runner.defenses.modes import evaluating

Objective = Callable[[Tensor, int], Tensor]
"""(images, step) -> (N,) values that the adversary raises, differentiable in the images."""


@dataclass(frozen=True, kw_only=True)
class InnerSearch:
    """A ball around each image, and the projected-gradient adversary that searches it.

    `attack` makes the adversary from `steps`, `step_size` (relative to epsilon; null is 2.5 / steps) and `random_start`.
    """

    epsilon: float | str
    norm: Norm
    attack: Callable[..., Callable[..., Tensor]]
    steps: int = 7
    step_size: float | None = None
    random_start: bool = True

    def __post_init__(self) -> None:
        require(exact(self.epsilon, "defense.epsilon") >= 0, "defense.epsilon", self.epsilon, "at least 0")
        require(self.steps >= 1, "defense.steps", self.steps, "at least 1")
        require(self.step_size is None or self.step_size > 0, "defense.step_size", self.step_size, "above 0, or null")
        if self.norm not in NORMS:
            raise ConfigError.choice("defense.norm", self.norm, NORMS)

    def search(self, model: nn.Module, objective: Objective, images: Tensor, keys: Tensor) -> Tensor:
        """(N, C, H, W) images inside the ball and the box that raise `objective`; the model is evaluated and frozen."""
        epsilon = float(exact(self.epsilon, "defense.epsilon"))
        adversary = self.attack(steps=self.steps, step_size=self.step_size, random_start=self.random_start)
        with evaluating(model), frozen(model):
            return adversary(objective, images, epsilon, self.norm, keys).detach()


def label_loss(model: nn.Module, labels: Tensor) -> Objective:
    """The cross-entropy of each image: what an adversary of the label raises."""
    return lambda images, step: F.cross_entropy(model(images), labels, reduction="none")


def mixed_entropy(
    model: nn.Module, batch: Batch, perturbed: Tensor, clean_weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """clean_weight * clean + (1 - clean_weight) * adversarial mean cross-entropy, and what of both was computed."""
    scalars: dict[str, Tensor] = {}
    loss = torch.zeros((), dtype=batch.images.dtype, device=batch.images.device)
    for name, images, share in (("clean", batch.images, clean_weight), ("adversarial", perturbed, 1 - clean_weight)):
        if share > 0:
            entropy = F.cross_entropy(model(images), batch.labels)
            loss, scalars[f"{name}_loss"] = loss + share * entropy, entropy.detach()
    return loss, scalars


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """The model with parameters that take no gradient: a search in the images need not pay for them."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield model
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
