"""TRADES (Zhang et al., ICML 2019): natural cross-entropy, and how far predictions move inside a ball."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.core import rng
from runner.core.errors import require_at_least, require_positive
from runner.core.grid import exact, require_budget
from runner.core.norms import project
from runner.core.types import Batch, Norm
from runner.defenses.modes import evaluating


@dataclass(frozen=True)
class Trades:
    """cross-entropy(x) + beta * mean KL(p(x) || p(x')), with x' raising that divergence inside the ball of `epsilon`.

    beta is the paper's 1 / lambda. The search starts at x plus Gaussian noise of standard deviation `start_noise`, since the
    gradient of the divergence is zero at x. `attack` builds the adversary from `steps` and `step_size` (relative to epsilon;
    null is 2.5 / steps); it uses the model in evaluation mode.
    """

    epsilon: float | str
    norm: Norm
    attack: Callable[..., Callable[..., Tensor]]
    beta: float = 6.0
    steps: int = 10
    step_size: float | None = 0.226
    start_noise: float = 0.001

    def __post_init__(self) -> None:
        require_budget("defense.epsilon", self.epsilon)
        require_at_least("defense.beta", self.beta, 0)
        require_at_least("defense.steps", self.steps, 1)
        require_positive("defense.step_size", self.step_size, "above 0, or null")
        require_at_least("defense.start_noise", self.start_noise, 0)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss; `penalty` is the mean divergence before weighting, `adversarial_loss` the cross-entropy of x'."""
        perturbed = self.perturb(model, batch)
        logits, moved = model(batch.images), model(perturbed)
        clean, penalty = F.cross_entropy(logits, batch.labels), divergence(logits, moved).mean()
        adversarial = F.cross_entropy(moved.detach(), batch.labels)
        scalars = {"clean_loss": clean.detach(), "adversarial_loss": adversarial, "penalty": penalty.detach()}
        return clean + self.beta * penalty, scalars

    def perturb(self, model: nn.Module, batch: Batch) -> Tensor:
        """Images (N, C, H, W) inside the ball and the box whose predictions are far from the clean ones."""
        epsilon = float(exact(self.epsilon, "defense.epsilon"))
        noise = rng.normal(rng.fold(batch.keys, 0), tuple(batch.images.shape[1:])).to(batch.images.dtype)
        start = project(batch.images + self.start_noise * noise, batch.images, epsilon, self.norm)
        adversary = self.attack(steps=self.steps, step_size=self.step_size, random_start=False)
        with evaluating(model, "running"):
            with torch.no_grad():
                clean = model(batch.images)

            def raised(images: Tensor, step: int) -> Tensor:
                return divergence(clean, model(images))

            return adversary(raised, batch.images, epsilon, self.norm, batch.keys, start=start).detach()


def divergence(logits: Tensor, others: Tensor) -> Tensor:
    """(N,) KL(softmax(logits) || softmax(others)), differentiable in both."""
    reference, log_others = logits.log_softmax(dim=1), others.log_softmax(dim=1)
    return F.kl_div(log_others, reference, reduction="none", log_target=True).sum(dim=1)
