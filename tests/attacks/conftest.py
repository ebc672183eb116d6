"""Tiny analytic problems for attacks."""

import pytest
import torch
from torch import Tensor, nn

from runner.attacks.objectives import Original
from runner.core import rng
from runner.core.attack_types import Problem


class Quadratic(nn.Module):
    """Two logits: +-(x' A x / 2), so that the gradient of the first is A x, whatever the label."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        value = 0.5 * ((flat @ self.matrix) * flat).sum(dim=1)
        return torch.stack((value, -value), dim=1)


def explain(model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
    """|gradient| of the target logit, channels summed."""
    needs_graph = torch.is_grad_enabled() and images.requires_grad
    with torch.enable_grad():
        leaf = images if images.requires_grad else images.detach().requires_grad_(True)
        chosen = model(leaf).gather(1, targets[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, leaf, create_graph=needs_graph)
    return gradient.abs().sum(dim=1)


@pytest.fixture
def quadratic() -> Problem:
    """Twelve pixels, six examples; harm is the squared distance of the maps."""
    torch.manual_seed(0)
    matrix = torch.rand(12, 12)
    model = Quadratic(matrix + matrix.T)
    images = torch.rand(6, 1, 3, 4) * 0.6 + 0.2
    return Problem(
        model=model,
        twin=lambda beta: model,
        explain=explain,
        harm=lambda reference, maps: (maps - reference).square().sum(dim=(1, 2)),
        images=images,
        targets=model(images).argmax(dim=1),
        partners=images.flip(0),
        keys=rng.example_keys(0, range(6), "attack"),
    )


@pytest.fixture
def original(quadratic: Problem) -> Original:
    """What objectives compare with on that problem."""
    maps = explain(quadratic.model, quadratic.images, quadratic.targets, quadratic.keys)
    return Original(maps, quadratic.model(quadratic.images).softmax(1), lambda: maps)
