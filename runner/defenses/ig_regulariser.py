"""Robust attribution regularisation (Chen et al., NeurIPS 2019): integrated gradients of the loss from x to x' stay small.

Along the straight path from an image to a perturbed one, the integrated gradients of the cross-entropy sum to the change of
the loss; their l1 norm bounds it, and bounds how far the attribution moves (their IG-NORM and IG-SUM-NORM).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.core.chunking import recomputed
from runner.core.errors import require, require_at_least
from runner.core.types import Batch
from runner.defenses.inner_search import InnerSearch
from runner.defenses.modes import evaluating

Size = Literal["norm", "sum_norm"]
Reduction = Literal["mean", "sum", "mixed"]


@dataclass(frozen=True, kw_only=True)
class IntegratedGradientsRegulariser(InnerSearch):
    """Cross-entropy + weight * ||IG(x, x')||_1, at the x' inside the ball that a search makes worst.

    `size: norm` (IG-NORM) uses the cross-entropy of x and searches for the largest norm; `sum_norm` (IG-SUM-NORM) adds the sum of
    the IG to `weight` times their norm, uses the cross-entropy of x', and searches for the largest total. `points`: m of the
    path; the search uses every `approx_factor`-th of them. `reduction`: `mean` over examples (the expectation of the paper, so
    that the weight does not depend on the batch), `sum` of the whole loss (their released code), or `mixed`, the mean
    cross-entropy and the summed norm (the released code of Wang et al., 2020). `chunk`: largest number of images in one forward
    pass, null for all; it bounds memory at the cost of one more pass over the points.
    """

    size: Size = "norm"
    weight: float = 1.0
    points: int = 50
    approx_factor: int = 5
    reduction: Reduction = "mean"
    chunk: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("defense.weight", self.weight, 0)
        require_at_least("defense.points", self.points, 1)
        divides = self.approx_factor >= 1 and self.points % self.approx_factor == 0
        require(divides, "defense.approx_factor", self.approx_factor, f"a divisor of defense.points={self.points}")
        require_at_least("defense.chunk", self.chunk, 1)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The regularised loss; `penalty` is the mean l1 norm of the IG before weighting."""
        perturbed = self.perturb(model, batch)
        name, images = ("clean", batch.images) if self.size == "norm" else ("adversarial", perturbed)
        entropies = F.cross_entropy(model(images), batch.labels, reduction="none")
        norms = self.norms(model, batch, perturbed)
        first = entropies.sum() if self.reduction == "sum" else entropies.mean()
        second = norms.mean() if self.reduction == "mean" else norms.sum()
        scalars = {f"{name}_loss": entropies.mean().detach(), "penalty": norms.mean().detach()}
        return first + self.weight * second, scalars

    def penalty(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean l1 norm of the IG from each image to its perturbed one."""
        return self.norms(model, batch, self.perturb(model, batch)).mean()

    def norms(self, model: nn.Module, batch: Batch, perturbed: Tensor, stride: int = 1) -> Tensor:
        """(N,) l1 norms of the IG from the images to `perturbed`, over every `stride`-th point of the path."""
        shares = [index / self.points for index in range(stride, self.points + 1, stride)]
        paths = path_attribution(model, batch.images, perturbed, batch.labels, shares, self.chunk)
        return paths.abs().sum(dim=(1, 2, 3))

    def perturb(self, model: nn.Module, batch: Batch) -> Tensor:
        """(N, C, H, W) images inside the ball and the box that the search finds on the approximated objective."""

        def raised(images: Tensor, step: int) -> Tensor:
            norms = self.norms(model, batch, images, self.approx_factor)
            if self.size == "norm":
                return norms
            return F.cross_entropy(model(images), batch.labels, reduction="none") + self.weight * norms

        return self.search(model, raised, batch.images, batch.keys)


def path_attribution(
    model: nn.Module,
    images: Tensor,
    perturbed: Tensor,
    labels: Tensor,
    shares: Sequence[float],
    chunk: int | None = None,
) -> Tensor:
    """(N, C, H, W) integrated gradients of the cross-entropy from `images` to `perturbed`, model in evaluation mode.

    `shares` are the points of the path, 0 at `images` and 1 at `perturbed`, of equal weight. Differentiable once in
    `perturbed` and in the parameters; `chunk` as in the class above.
    """
    count = len(shares) if chunk is None else max(1, chunk // len(images))
    parts = [shares[start : start + count] for start in range(0, len(shares), count)]
    passes = [partial(_gradient_sum, model, images, labels, part) for part in parts]
    if len(passes) == 1:
        total = passes[0](perturbed, torch.is_grad_enabled())
    else:
        total = sum((recomputed(model, one_pass, perturbed) for one_pass in passes), torch.zeros_like(images))
    return (perturbed - images) * total / len(shares)


def _gradient_sum(
    model: nn.Module, images: Tensor, labels: Tensor, shares: Sequence[float], ends: Tensor, create_graph: bool
) -> Tensor:
    """(N, C, H, W) sum of the gradients of the cross-entropy at the points of each path, in one pass."""
    column = images.new_tensor(shares).reshape(1, -1, 1, 1, 1)
    with torch.enable_grad(), evaluating(model):
        places = (images.unsqueeze(1) + column * (ends - images).unsqueeze(1)).flatten(0, 1)
        places = places if places.requires_grad else places.requires_grad_()
        loss = F.cross_entropy(model(places), labels.repeat_interleave(len(shares)), reduction="sum")
        (gradients,) = torch.autograd.grad(loss, places, create_graph=create_graph)
    summed: Tensor = gradients.unflatten(0, (len(images), len(shares))).sum(dim=1)
    return summed
