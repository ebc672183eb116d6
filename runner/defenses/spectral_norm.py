"""Spectral norm regularisation (Yoshida and Miyato, 2017, arXiv 1705.10941): small layer norms bound how fast maps change.

The gradient of sigma(W)^2 / 2 is sigma u v^T, with u and v the top singular vectors. One power iteration per step is enough to
track them, since the weights change little between steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from runner.core import rng
from runner.core.errors import require, require_at_least
from runner.core.types import Batch
from runner.defenses.modes import evaluating
from runner.defenses.regulariser import regularised

TINY = 1e-12
Layer = nn.Linear | nn.Conv2d
Operator = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class SpectralNorm:
    """Cross-entropy + weight * sum over linear and convolutional layers of sigma(W)^2 / 2, without biases and batch norm.

    `conv`: `kernel` uses the weights of a convolution reshaped to (out, in * height * width), as in the paper; `operator` uses
    the linear map on its actual input size, whose norm bounds the layer's Lipschitz constant.
    `state` keeps the right singular vector of each layer between steps.
    """

    weight: float = 0.01
    conv: Literal["kernel", "operator"] = "kernel"
    state: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_at_least("defense.weight", self.weight, 0)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The regularised loss; `penalty` is half the sum of squared norms."""
        return regularised(self, model, batch, self.weight)

    def penalty(self, model: nn.Module, batch: Batch) -> Tensor:
        """Half the sum over layers of sigma(W)^2, after one power iteration on each."""
        layers = _layers(model)
        require(bool(layers), "model", type(model).__name__, "a network with linear or convolutional layers")
        if not self.state:
            self.state.update(self._starts(model, layers, batch.images[:1]))
        halves = [self._norm(name, layers[name]).square() / 2 for name in self.state]
        return torch.stack(halves).sum()

    def _norm(self, name: str, layer: Layer) -> Tensor:
        operator = as_operator(layer) if self.conv == "operator" else as_matrix(layer)
        sigma, self.state[name] = one_iteration(operator, self.state[name])
        return sigma

    def _starts(self, model: nn.Module, layers: dict[str, Layer], images: Tensor) -> dict[str, Tensor]:
        """A random direction for each layer that the model uses."""
        shapes = _input_shapes(model, layers, images)
        if self.conv == "kernel":
            shapes = {name: layers[name].weight.flatten(1).shape[1:] for name in shapes}
        return {name: _random_unit(name, shape, layers[name].weight) for name, shape in shapes.items()}


def one_iteration(operator: Operator, right: Tensor) -> tuple[Tensor, Tensor]:
    """sigma = u^T W v (scalar, differentiable in W) and the new v, after u = W v / |W v| and v = W^T u / |W^T u|."""
    start = right.detach().requires_grad_(True)
    with torch.enable_grad():
        image = operator(start)
    left = _unit(image.detach())
    (transposed,) = torch.autograd.grad(image, start, left)
    new = _unit(transposed)
    return (left * operator(new)).sum(), new


def as_matrix(layer: Layer) -> Operator:
    """The weights reshaped to (out, rest), as a map of vectors (rest,)."""
    return lambda vector: layer.weight.flatten(1) @ vector


def as_operator(layer: Layer) -> Operator:
    """The layer without its bias, as a linear map of inputs (1, ...), with its stride, padding and groups."""
    weights: dict[str, Any] = {"weight": layer.weight}
    if layer.bias is not None:
        weights["bias"] = torch.zeros_like(layer.bias)
    return lambda values: functional_call(layer, weights, (values,))


def _layers(model: nn.Module) -> dict[str, Layer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Layer)}


def _input_shapes(model: nn.Module, layers: dict[str, Layer], images: Tensor) -> dict[str, torch.Size]:
    """Input shape (1, ...) of each layer for one image; unused layers are left out."""
    shapes: dict[str, torch.Size] = {}

    def remember(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda module, inputs: shapes.update({name: inputs[0].shape})

    handles = [layer.register_forward_pre_hook(remember(name)) for name, layer in layers.items()]
    try:
        with evaluating(model, "running"), torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def _random_unit(name: str, shape: torch.Size, like: Tensor) -> Tensor:
    """A unit direction that depends only on the layer's name, so that all seeds and batch sizes start with the same one."""
    draw = rng.normal(rng.example_keys(0, [0], f"spectral_norm-{name}"), shape)[0]
    return _unit(draw.to(like))


def _unit(vector: Tensor) -> Tensor:
    unit: Tensor = vector / vector.norm().clamp_min(TINY)
    return unit
