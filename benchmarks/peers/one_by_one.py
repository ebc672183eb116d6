"""The top-k attack as published scripts run it: one image at a time, double backward through a softplus network.

Ghorbani, Abid and Zou (AAAI 2019), Algorithm 1, with l2 steps; of the iterates that keep the label on the true network, the one
with the smallest top-k intersection is kept. A map function takes (network, image (1, C, H, W), class) and returns the signed map
(C, H, W), with a graph if the image asks for one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

MapOf = Callable[[nn.Module, Tensor, int], Tensor]


def saliency(network: nn.Module, image: Tensor, target: int) -> Tensor:
    """The gradient of the class's logit."""
    return _mean_gradient(network, image, target)


def smoothgrad(samples: int, sigma: float) -> MapOf:
    """The mean gradient at noisy copies of the image, all in one batch."""

    def map_of(network: nn.Module, image: Tensor, target: int) -> Tensor:
        return _mean_gradient(network, image + sigma * torch.randn(samples, *image.shape[1:]).to(image), target)

    return map_of


def integrated_gradients(steps: int) -> MapOf:
    """The image times the mean gradient on the way from a black image, all points in one batch."""

    def map_of(network: nn.Module, image: Tensor, target: int) -> Tensor:
        shares = torch.arange(1, steps + 1).to(image).reshape(-1, 1, 1, 1) / steps
        return _mean_gradient(network, shares * image, target) * image[0]

    return map_of


def topk_attack(
    model: nn.Module, soft: nn.Module, images: Tensor, map_of: MapOf, epsilon: float, steps: int, k: int
) -> Tensor:
    """The most harmful images (n, C, H, W) that the loop finds for each image by itself."""
    return torch.cat([_attack_one(model, soft, image, map_of, epsilon, steps, k) for image in images.split(1)])


def _attack_one(
    model: nn.Module, soft: nn.Module, clean: Tensor, map_of: MapOf, epsilon: float, steps: int, k: int
) -> Tensor:
    with torch.no_grad():
        target = int(model(clean).argmax())
    top = set(_top(_flat(map_of(model, clean, target)), k).tolist())
    soft_top = _top(_flat(map_of(soft, clean, target)), k)
    image, best, fewest = clean, clean, k
    for _ in range(steps):
        leaf = image.clone().requires_grad_(True)
        strengths = _flat(map_of(soft, leaf, target))
        (gradient,) = torch.autograd.grad(strengths[soft_top].sum() / strengths.sum(), leaf)
        moved = image - 2.5 * epsilon / steps * gradient / gradient.norm().clamp_min(1e-12)
        delta = moved - clean
        image = (clean + delta * (epsilon / delta.norm().clamp_min(1e-12)).clamp_max(1.0)).clamp(0.0, 1.0)
        with torch.no_grad():
            keeps = int(model(image).argmax()) == target
        common = len(top & set(_top(_flat(map_of(model, image, target)), k).tolist()))
        if keeps and common < fewest:
            best, fewest = image, common
    return best


def _flat(signed: Tensor) -> Tensor:
    """(H * W,) absolute values, summed over channels."""
    return signed.abs().sum(dim=0).flatten()


def _top(strengths: Tensor, k: int) -> Tensor:
    return strengths.detach().topk(k).indices


def _mean_gradient(network: nn.Module, places: Tensor, target: int) -> Tensor:
    """(C, H, W) mean over places (M, C, H, W) of the gradient of the class's logit there."""
    graph = places.requires_grad
    leaf = places if graph else places.detach().requires_grad_(True)
    (gradients,) = torch.autograd.grad(network(leaf)[:, target].sum(), leaf, create_graph=graph)
    return gradients.mean(dim=0)
