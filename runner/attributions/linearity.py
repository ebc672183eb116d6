"""Finds code between the layers of a network that is not linear: for it there is no rule, and a signal through it is wrong."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from runner.attributions.layers import layers
from runner.attributions.propagation import hooked, record
from runner.core.errors import ConfigError


def require_rules(network: nn.Module, images: Tensor, name: str = "") -> None:
    """Every layer must have a rule, and the code between layers must be linear. `name`: that of the network in its model.

    An image and a black one are recorded; then each layer is made to return the mean of what it returned for them. If the code
    between layers is linear, every layer then receives the mean of its inputs. Needs values, so not on the meta device.
    Errors: `ConfigError` naming the layer.
    """
    pair = torch.stack([images[0], torch.zeros_like(images[0])])
    calls = record(network, pair, name)
    following = iter(calls)
    problem = (
        "is not linear: activations must be modules, as nn.ReLU instead of F.relu, and features must not be multiplied"
    )

    def return_mean(module: nn.Module, inputs: tuple[Any, ...], _: Tensor) -> Tensor:
        call = next(following)
        if not _is_mean(inputs[0], call.inputs):
            label = f"{call.name or 'the model'} ({type(module).__name__})"
            raise ConfigError(f"attribution: no rule for the code before the layer {label}, which {problem}")
        return _mean(call.outputs)

    with torch.no_grad():
        expected = network(pair)
        with hooked(layers(network), return_mean):
            logits = network(_mean(pair))
    if not _is_mean(logits, expected):
        raise ConfigError(f"attribution: no rule for the code after the last layer, which {problem}")


def _mean(values: Tensor) -> Tensor:
    halves: Tensor = values.unflatten(0, (2, -1))
    return halves.mean(dim=0)


def _is_mean(found: Tensor, both: Tensor) -> bool:
    scale = both.abs().amax().clamp_min(1e-12)
    return bool((found - _mean(both)).abs().amax() <= 1e-3 * scale)
