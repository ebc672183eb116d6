"""Free adversarial training (Shafahi et al., NeurIPS 2019): the backward pass that trains also moves the perturbation."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.core.errors import require_at_least, require_positive
from runner.core.grid import exact, require_budget
from runner.core.norms import lengths, normalise, project
from runner.core.types import Batch, Norm

KEPT = "perturbation"


@dataclass(frozen=True)
class FreeAdversarialTraining:
    """Cross-entropy of x + d. Each backward pass also moves d by `step_size` * epsilon up the loss, back into the ball.

    Every batch is trained on `replays` times (m of the paper). d has one entry per position in the batch and is kept for the next
    batch. The paper divides the number of epochs by m. The gradient in the images is that of the training step, so the model is
    in training mode.
    """

    epsilon: float | str
    norm: Norm
    replays: int = 8
    step_size: float = 1.0
    state: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_budget("defense.epsilon", self.epsilon)
        require_at_least("defense.replays", self.replays, 1)
        require_positive("defense.step_size", self.step_size)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of the perturbed images; its backward pass moves the perturbation for the next call."""
        epsilon = float(exact(self.epsilon, "defense.epsilon"))
        kept = self._kept(batch.images)
        images = project(batch.images + kept, batch.images, epsilon, self.norm).requires_grad_(True)

        def ascend(gradient: Tensor) -> None:
            step = normalise(gradient.detach(), self.norm) * (self.step_size * epsilon)
            kept.copy_(_into_ball(kept + step, epsilon, self.norm))

        images.register_hook(ascend)
        loss = F.cross_entropy(model(images), batch.labels)
        return loss, {"adversarial_loss": loss.detach()}

    def _kept(self, images: Tensor) -> Tensor:
        """A view of the first N perturbations; zeros are added when a batch is larger than all before it."""
        kept = self.state.get(KEPT, images[:0])
        if len(kept) < len(images):
            kept = torch.cat([kept, torch.zeros_like(images[len(kept) :])])
            self.state[KEPT] = kept
        return kept[: len(images)]


def _into_ball(deltas: Tensor, epsilon: float, norm: Norm) -> Tensor:
    """The nearest perturbations (N, C, H, W) in the ball; the perturbed images are clamped to the box later."""
    if norm == "linf":
        return deltas.clamp(-epsilon, epsilon)
    scale = epsilon / lengths(deltas, "l2").clamp_min(max(epsilon, 1e-12))
    return deltas * scale.reshape(-1, 1, 1, 1)
