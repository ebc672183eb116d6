"""Shared by FAR and the integrated gradient regulariser: the distance of the maps of an image and of a perturbed one."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from runner.core import rng
from runner.core.errors import require_at_least, require_positive
from runner.core.types import Batch
from runner.defenses.inner_search import InnerSearch
from runner.defenses.maps import Dissimilarity, Explanation, TwinFactory, explained, pair_distance


@dataclass(frozen=True, kw_only=True)
class PairRegulariser(InnerSearch):
    """Weight * d(A(x), A(x')), maps of the true class, x' found inside the ball by `perturb`.

    `beta`: the maps are those of the softplus twin with this beta; null explains the model itself.
    """

    attribution: Explanation
    twin: TwinFactory
    beta: float | None = None
    weight: float = 1.0
    dissimilarity: Dissimilarity = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("defense.beta", self.beta, "above 0, or null for the model itself")
        require_at_least("defense.weight", self.weight, 0)

    @abstractmethod
    def perturb(self, model: nn.Module, batch: Batch) -> Tensor:
        """(N, C, H, W) images x' inside the ball and the box."""

    def penalty(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean dissimilarity over the batch, at images from a separate search."""
        return self.distances(model, batch, self.perturb(model, batch)).mean()

    def distances(self, model: nn.Module, batch: Batch, perturbed: Tensor) -> Tensor:
        """(N,) dissimilarities of the maps of the images and of `perturbed`, differentiable in the parameters."""
        network, keys = explained(model, self.twin, self.beta), rng.fold(batch.keys, 0)
        pair = (batch.images, perturbed)
        return pair_distance(self.attribution, network, pair, batch.labels, keys, self.dissimilarity)
