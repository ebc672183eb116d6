"""Classifies the layers of a network, for backward passes with special rules.

A layer is a module that torch defines, or one without submodules.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from runner.core.errors import ConfigError

Kind = Literal["weighted", "normalisation", "maximum", "activation", "linear"]
"""weighted: linear layers and convolutions; linear: all other affine layers; activation: elementwise functions."""

_DROPOUTS = (nn.Dropout, nn.Dropout2d)
_KINDS: tuple[tuple[Kind, tuple[type[nn.Module], ...]], ...] = (
    ("weighted", (nn.Linear, nn.Conv2d)),
    ("normalisation", (nn.BatchNorm1d, nn.BatchNorm2d)),
    ("maximum", (nn.MaxPool2d,)),
    ("activation", (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Softplus, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish)),
    ("activation", (nn.Sigmoid, nn.Tanh, nn.Softsign, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish)),
    ("linear", (nn.Flatten, nn.Unflatten, nn.Identity, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.ZeroPad2d)),
    ("linear", _DROPOUTS),
)


def layers(network: nn.Module, name: str = "") -> dict[nn.Module, str]:
    """All layers by name, without layers inside other layers (such as the padding of a convolution)."""
    return dict(_walk(network, name))


def kind_of(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> Kind:
    """The kind of a layer that is called with these inputs. Errors: `ConfigError` naming a layer without a rule."""
    kind = next((kind for kind, types in _KINDS if isinstance(module, types)), None)
    if kind is None and len(inputs) == 1:
        kind = _probed(module, inputs[0])
    problem = _problem(module, kind)
    if kind is None or problem:
        label = f"{name or 'the model'} ({type(module).__name__})"
        raise ConfigError(f"attribution: no rule for the layer {label}: {problem}")
    return kind


def _walk(module: nn.Module, name: str) -> Iterator[tuple[nn.Module, str]]:
    children = dict(module.named_children())
    if not children or any(isinstance(module, types) for _, types in _KINDS):
        yield module, name
        return
    for child_name, child in children.items():
        yield from _walk(child, f"{name}.{child_name}" if name else child_name)


def _problem(module: nn.Module, kind: Kind | None) -> str:
    if kind is None:
        return "it is neither affine, nor a function of each value alone, nor max-pooling"
    if kind == "activation" and getattr(module, "inplace", False):
        return "it overwrites its input; build it with inplace=False"
    if kind == "normalisation" and getattr(module, "running_mean", None) is None:
        return "it needs running statistics"
    varies = kind == "normalisation" or isinstance(module, _DROPOUTS)
    return "it needs evaluation mode" if varies and module.training else ""


def _probed(module: nn.Module, example: Tensor) -> Kind | None:
    """The output of an unknown layer for a ramp of values with the shape of one example."""
    ramp = torch.linspace(-8, 8, example[:1].numel(), dtype=example.dtype, device=example.device)
    ramp = ramp.reshape_as(example[:1])
    function = module.forward
    with torch.no_grad():
        result, base = function(ramp), function(torch.zeros_like(ramp))
        scale = max(float(result.abs().max()), float(base.abs().max()), 1e-12)
        bent = max(float((function(factor * ramp) - base - factor * (result - base)).abs().max()) for factor in (-1, 2))
        if bent <= 1e-4 * scale:
            return "linear"
        if result.shape != ramp.shape:
            return None
        kept = torch.arange(ramp.numel(), device=ramp.device).reshape_as(ramp) % 2 == 0
        alone = function(ramp.where(kept, 0.0))
        moved = float((alone - result).abs().where(kept, 0.0).max())
    return "activation" if moved <= 1e-4 * scale else None
