"""Integrated gradient regulariser (Wang and Kong, NeurIPS 2022): aligns the IG of an image and of a perturbed image.

The expected Kendall correlation of two maps grows with their cosine similarity, so the regulariser uses their directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from runner.core import rng
from runner.core.errors import require
from runner.core.types import Batch
from runner.defenses.inner_search import label_loss, mixed_entropy
from runner.defenses.maps import Dissimilarity, distance, explained
from runner.defenses.pair_regulariser import PairRegulariser

Target = Literal["label", "map"]


@dataclass(frozen=True, kw_only=True)
class IntegratedGradientRegulariser(PairRegulariser):
    """Cross-entropy + weight * (1 - cos(IG(x), IG(x'))), IG of the true class.

    `search_on`: the search for x' raises the cross-entropy (`label`) or the regulariser itself (`map`).
    `clean_weight` divides the cross-entropy between x and x': 0 is adversarial training, 1 natural training.
    `beta`: the maps are those of the softplus twin with this beta; null explains the model itself, whose maps have a
    gradient in the parameters but, with ReLU, hardly any in the images (so `search_on: map` needs a beta).
    """

    beta: float | None = None
    clean_weight: float = 0.0
    search_on: Target = "label"
    dissimilarity: Dissimilarity = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.clean_weight <= 1, "defense.clean_weight", self.clean_weight, "in [0, 1]")

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The regularised loss; `penalty` is the mean of 1 - cos before weighting."""
        perturbed = self.perturb(model, batch)
        entropy, scalars = mixed_entropy(model, batch, perturbed, self.clean_weight)
        penalty = self.distances(model, batch, perturbed).mean()
        return entropy + self.weight * penalty, {**scalars, "penalty": penalty.detach()}

    def perturb(self, model: nn.Module, batch: Batch) -> Tensor:
        """(N, C, H, W) images x' inside the ball and the box."""
        if self.search_on == "label":
            return self.search(model, label_loss(model, batch.labels), batch.images, batch.keys)
        network, keys = explained(model, self.twin, self.beta), rng.fold(batch.keys, 0)
        reference = self.attribution(network, batch.images, batch.labels, keys).detach()

        def raised(images: Tensor, step: int) -> Tensor:
            return distance(reference, self.attribution(network, images, batch.labels, keys), self.dissimilarity)

        return self.search(model, raised, batch.images, batch.keys)
