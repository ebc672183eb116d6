"""Attributional robustness as a minimax (Ivankay et al., FAR, 2020; BMVC 2021): AAT and AdvAAT.

Adversarial attributional training (AAT) minimises the loss and the largest dissimilarity of maps inside a ball; AdvAAT also
trains on adversarial images, so that prediction and map are robust together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from runner.core import rng
from runner.core.types import Batch
from runner.defenses.inner_search import label_loss, mixed_entropy
from runner.defenses.maps import Dissimilarity, distance, explained
from runner.defenses.pair_regulariser import PairRegulariser

Mode = Literal["aat", "advaat", "advaat_two"]


@dataclass(frozen=True, kw_only=True)
class AttributionalTraining(PairRegulariser):
    """Cross-entropy + weight * d(A(x), A(x')), d one minus the correlation of the maps of the true class.

    `mode`: `aat` searches for the largest d and uses the cross-entropy of x; `advaat` searches for the largest
    cross-entropy + weight * d and uses both at that x'; `advaat_two` uses d at the x' of `aat` and the cross-entropy at a
    separate adversarial image. Maps are differentiated, which needs second derivatives: they are those of the softplus twin
    with `beta`; null explains the model itself, which must then be smooth.
    """

    beta: float | None = 50.0
    mode: Mode = "aat"
    dissimilarity: Dissimilarity = "pearson"

    def __post_init__(self) -> None:
        super().__post_init__()

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The regularised loss; `penalty` is the mean dissimilarity before weighting."""
        perturbed = self.perturb(model, batch)
        attacked = self._label_adversary(model, batch) if self.mode == "advaat_two" else perturbed
        entropy, scalars = mixed_entropy(model, batch, attacked, clean_weight=float(self.mode == "aat"))
        penalty = self.distances(model, batch, perturbed).mean()
        return entropy + self.weight * penalty, {**scalars, "penalty": penalty.detach()}

    def perturb(self, model: nn.Module, batch: Batch) -> Tensor:
        """(N, C, H, W) images x' inside the ball and the box."""
        network, keys = explained(model, self.twin, self.beta), rng.fold(batch.keys, 0)
        reference = self.attribution(network, batch.images, batch.labels, keys).detach()

        def raised(images: Tensor, step: int) -> Tensor:
            apart = distance(reference, self.attribution(network, images, batch.labels, keys), self.dissimilarity)
            if self.mode != "advaat":
                return apart
            return F.cross_entropy(model(images), batch.labels, reduction="none") + self.weight * apart

        return self.search(model, raised, batch.images, batch.keys)

    def _label_adversary(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.search(model, label_loss(model, batch.labels), batch.images, rng.fold(batch.keys, 1))
