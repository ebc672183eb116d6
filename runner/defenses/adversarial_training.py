"""Adversarial training (Madry et al., ICLR 2018): minimise the loss at its maximum inside a ball around each image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from runner.core.errors import require, require_at_least, require_positive
from runner.core.grid import exact, require_budget
from runner.core.types import Batch, Norm
from runner.defenses.modes import evaluating


@dataclass(frozen=True)
class AdversarialTraining:
    """Cross-entropy of adversarial images that projected gradient ascent finds inside the ball of `epsilon`.

    `attack` builds the adversary from `steps`, `step_size` (relative to epsilon; null is 2.5 / steps) and `random_start`.
    `clean_weight` mixes in the loss of the clean images: 0 is Madry et al., 0.5 the setting of Wang et al. (2020). The
    adversary uses the model in evaluation mode, as in the library that Madry et al. released later.
    """

    epsilon: float | str
    norm: Norm
    attack: Callable[..., Callable[..., Tensor]]
    steps: int = 7
    step_size: float | None = None
    random_start: bool = True
    clean_weight: float = 0.0

    def __post_init__(self) -> None:
        require_budget("defense.epsilon", self.epsilon)
        require_at_least("defense.steps", self.steps, 1)
        require_positive("defense.step_size", self.step_size, "above 0, or null")
        require(0 <= self.clean_weight < 1, "defense.clean_weight", self.clean_weight, "at least 0 and below 1")

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """(1 - clean_weight) * adversarial + clean_weight * clean cross-entropy."""
        adversarial = F.cross_entropy(model(self.perturb(model, batch)), batch.labels)
        if self.clean_weight == 0.0:
            return adversarial, {"adversarial_loss": adversarial.detach()}
        clean = F.cross_entropy(model(batch.images), batch.labels)
        loss = self.clean_weight * clean + (1 - self.clean_weight) * adversarial
        return loss, {"adversarial_loss": adversarial.detach(), "clean_loss": clean.detach()}

    def perturb(self, model: nn.Module, batch: Batch) -> Tensor:
        """Adversarial images (N, C, H, W) inside the ball and the box."""

        def raised(images: Tensor, step: int) -> Tensor:
            return F.cross_entropy(model(images), batch.labels, reduction="none")

        epsilon = float(exact(self.epsilon, "defense.epsilon"))
        adversary = self.attack(steps=self.steps, step_size=self.step_size, random_start=self.random_start)
        with evaluating(model, "running"):
            return adversary(raised, batch.images, epsilon, self.norm, batch.keys).detach()
