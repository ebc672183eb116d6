"""Local gradient alignment (Joo et al., AAAI 2023, arXiv 2211.15900): a random neighbour should have the same map.

Scaling all logits changes the l2 distance of maps, though not the normalised maps; their cosine does not change.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from runner.core.errors import require_at_least
from runner.core.grid import exact, require_budget
from runner.core.norms import sample_ball
from runner.core.types import Batch, Norm
from runner.defenses.input_gradient import input_gradient, sizes
from runner.defenses.modes import clean_logits, evaluating


@dataclass(frozen=True)
class LocalGradientAlignment:
    """cross-entropy + l2_weight * mean ||g - g'||_2^2 + cosine_weight * mean (1 - cos(g, g')) / 2.

    g and g' are the gradients of the label's logit at the [0, 1] image and at a neighbour drawn uniformly from the ball of
    `epsilon`. `detach_source`: g is a fixed target, as in the released code; false lets gradients through g too.
    """

    epsilon: float | str = "4/255"
    norm: Norm = "linf"
    l2_weight: float = 4e-4
    cosine_weight: float = 1.0
    detach_source: bool = True

    def __post_init__(self) -> None:
        require_budget("defense.epsilon", self.epsilon)
        require_at_least("defense.l2_weight", self.l2_weight, 0)
        require_at_least("defense.cosine_weight", self.cosine_weight, 0)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The regularised loss; `penalty` is the weighted sum of the two distances, which are also logged unweighted."""
        clean = F.cross_entropy(clean_logits(model, batch.images), batch.labels)
        distance, turn = self.misalignment(model, batch)
        penalty = self.l2_weight * distance + self.cosine_weight * turn
        scalars = {"clean_loss": clean, "penalty": penalty, "l2_penalty": distance, "cosine_penalty": turn}
        return clean + penalty, {name: value.detach() for name, value in scalars.items()}

    def penalty(self, model: nn.Module, batch: Batch) -> Tensor:
        """The weighted sum of the two distances."""
        distance, turn = self.misalignment(model, batch)
        return self.l2_weight * distance + self.cosine_weight * turn

    def misalignment(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean squared l2 distance and mean cosine distance, in [0, 1], of the two gradients, in evaluation mode."""
        with evaluating(model):
            source = input_gradient(model, batch.images, batch.labels, "logit", create_graph=not self.detach_source)
            near = input_gradient(model, self.neighbours(batch), batch.labels, "logit")
        cosine = F.cosine_similarity(source.flatten(1), near.flatten(1), dim=1)
        return sizes(source - near, squared=True).mean(), (1 - cosine).mean() / 2

    def neighbours(self, batch: Batch) -> Tensor:
        """(N, C, H, W) uniform in the balls around the images, which need not lie in [0, 1]."""
        epsilon = float(exact(self.epsilon, "defense.epsilon"))
        noise = sample_ball(batch.keys, tuple(batch.images.shape[1:]), epsilon, self.norm)
        return batch.images + noise.to(batch.images.dtype)
