"""Attributional robustness training (Singh et al., ECCV 2020): the gradient of the true class looks like the image.

A soft-margin triplet loss pulls the gradient g_y of the true class towards the image and pushes the gradient g_i of the
strongest other class away; the alignment of image and gradient bounds how far a map can be moved (their main theorem).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.core.errors import ConfigError, require, require_at_least, require_positive
from runner.core.norms import normalise
from runner.core.types import Batch
from runner.defenses.inner_search import InnerSearch
from runner.defenses.maps import Evaluated, TwinFactory, explained

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class AttributionalRobustnessTraining(InnerSearch):
    """Cross-entropy of x' + weight * L_attr over {x, x'}, L_attr = log(1 + exp(-(d(g_i, x) - d(g_y, x)))), d = 1 - cos.

    The search for x' raises L_attr on the coordinates where |g_y| of the model is largest at the starting point. `k_top` is
    their number, or below 1 their share. L_attr uses gradients with respect to the [0, 1] image, from the softplus twin with
    `beta`, in evaluation mode. `center`: x in d is the normalised image (by the model's module `normalise`), as published;
    false takes the image in [0, 1].
    """

    twin: TwinFactory
    beta: float = 50.0
    weight: float = 0.5
    k_top: float = 0.3255
    center: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("defense.beta", self.beta)
        require_at_least("defense.weight", self.weight, 0)
        counted = 0 < self.k_top < 1 or (self.k_top >= 1 and float(self.k_top).is_integer())
        require(counted, "defense.k_top", self.k_top, "a share in (0, 1), or a whole number of coordinates")

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The regularised loss; `penalty` is the mean of L_attr before weighting."""
        perturbed = self.perturb(model, batch)
        adversarial = F.cross_entropy(model(perturbed), batch.labels)
        penalty = self.triplets(model, batch, perturbed).mean()
        scalars = {"adversarial_loss": adversarial.detach(), "penalty": penalty.detach()}
        return adversarial + self.weight * penalty, scalars

    def penalty(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean of L_attr over the images and the images x' of a separate search."""
        return self.triplets(model, batch, self.perturb(model, batch)).mean()

    def triplets(self, model: nn.Module, batch: Batch, perturbed: Tensor) -> Tensor:
        """(N, 2) L_attr with the image and with x' as the anchor, each against the harder of the two copies' gradients."""
        images = torch.cat((batch.images, perturbed)).detach().requires_grad_()
        gradients = class_gradients(explained(model, self.twin, self.beta), images, batch.labels.repeat(2))
        anchors = self.anchors(model, images).detach()
        paired = [_pairs(values) for values in (anchors, *gradients)]
        true, other = (torch.einsum("nad,ncd->nac", paired[0], copies) for copies in paired[1:])
        return F.softplus(other.amax(dim=2) - true.amin(dim=2))

    def perturb(self, model: nn.Module, batch: Batch) -> Tensor:
        """(N, C, H, W) images x' inside the ball and the box that raise L_attr on the top coordinates."""
        network = explained(model, self.twin, self.beta)
        top: list[Tensor] = []

        def raised(images: Tensor, step: int) -> Tensor:
            if step == 0:
                top.append(self.top_coordinates(model, images, batch.labels))
            gradients = class_gradients(network, images, batch.labels)
            parts = (self.anchors(model, images), *gradients)
            anchor, true, other = (normalise(values.flatten(1).gather(1, top[0]), "l2") for values in parts)
            return F.softplus((anchor * other).sum(dim=1) - (anchor * true).sum(dim=1))

        return self.search(model, raised, batch.images, batch.keys)

    def top_coordinates(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """(N, k) numbers of the coordinates of the flat image where the model's own |g_y| is largest."""
        size = images[0].numel()
        count = round(self.k_top * size) if self.k_top < 1 else int(self.k_top)
        require(count <= size, "defense.k_top", self.k_top, f"at most the {size} coordinates of an image")
        leaf = images.detach().requires_grad_()
        true, _ = class_gradients(Evaluated(model), leaf, labels)
        indices: Tensor = true.flatten(1).abs().topk(max(count, 1), dim=1).indices
        return indices

    def anchors(self, model: nn.Module, images: Tensor) -> Tensor:
        """(N, C, H, W) images to compare gradients with. Errors: `ConfigError` for a model without `normalise`."""
        if not self.center:
            return images
        inside = getattr(model, "normalise", None)
        if not isinstance(inside, nn.Module):
            raise ConfigError("defense.center=True: this model has no module `normalise`; give defense.center=false")
        normalised: Tensor = inside(images)
        return normalised


def class_gradients(network: nn.Module, images: Tensor, labels: Tensor) -> Pair:
    """(N, C, H, W) gradients of the true class's logit and of the highest other one, with the graph kept."""
    with torch.enable_grad():
        logits: Tensor = network(images)
        true = logits.gather(1, labels.unsqueeze(1)).sum()
        other = logits.scatter(1, labels.unsqueeze(1), -torch.inf).amax(dim=1).sum()
        gradients = [torch.autograd.grad(score, images, create_graph=True)[0] for score in (true, other)]
    return gradients[0], gradients[1]


def _pairs(values: Tensor) -> Tensor:
    """(2 N, C, H, W), first all images and then all perturbed ones -> (N, 2, D), each row of unit length."""
    rows: Tensor = normalise(values.flatten(1), "l2").unflatten(0, (2, -1))
    return rows.transpose(0, 1)
