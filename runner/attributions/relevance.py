"""The rules of layer-wise relevance propagation, for `replay`.

Signals are relevance divided by value, R / a. So a sum propagates its signal unchanged, and a layer with z = L(a; w) + b that
distributes R_k by some z'_kj = a_j w'_kj propagates w'^T (s z / z'), s the signal at z.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from runner.attributions.propagation import Call, with_slope
from runner.core.errors import ConfigError

Sharing = Literal["epsilon", "gamma", "z_plus"]
_FLOOR = 1e-12


@dataclass(frozen=True)
class Affine:
    """L(a; weight) + bias of a linear layer or convolution, with the batch normalisation after it merged in."""

    module: nn.Module
    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layer: nn.Module, norm: nn.Module | None = None) -> Affine:
        """`norm`: a batch normalisation with running statistics, or None."""
        weight, bias = getattr(layer, "weight"), getattr(layer, "bias")  # noqa: B009  (typed as Tensor | Module)
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and norm.running_var is not None:
            scale = (norm.running_var + norm.eps).rsqrt()
            scale = scale if norm.weight is None else scale * norm.weight
            bias = (bias - norm.running_mean) * scale
            bias = bias if norm.bias is None else bias + norm.bias
            weight = weight * scale.reshape(-1, *[1] * (weight.dim() - 1))
        return cls(layer, weight, bias)

    def linear(self, values: Tensor, weight: Tensor) -> Tensor:
        """L(values; weight)."""
        names = {"weight": weight} | ({} if self.module.bias is None else {"bias": torch.zeros_like(self.bias)})
        result: Tensor = functional_call(self.module, names, (values,))
        return result

    def positive(self, values: Tensor, signs: Tensor) -> Tensor:
        """Sum of the positive terms of L(signs; weight) + bias, as a linear function of `values`."""
        up = self.linear(values * (signs > 0), self.weight.clamp(min=0))
        if bool((signs < 0).any()):
            up = up + self.linear(values * (signs < 0), self.weight.clamp(max=0))
        return up + self.bias.clamp(min=0).reshape(-1, *[1] * (values.dim() - 2))


@dataclass(frozen=True)
class RuleSet:
    """Which rule convolutions and linear layers get, and the numbers of the rules."""

    convolution: Sharing
    dense: Sharing
    gamma: float
    epsilon: float

    def of(self, layer: nn.Module) -> Sharing:
        """The rule of a weighted layer."""
        return self.dense if isinstance(layer, nn.Linear) else self.convolution


class Relevance:
    """The `Rule` of one replay."""

    def __init__(self, chosen: RuleSet, calls: Sequence[Call], pixels: Tensor, box: Sequence[Tensor]) -> None:
        """`box`: smallest and largest image (1, C, H, W) for the z^B rule of the first weighted layer, or nothing.

        Errors: `ConfigError` when there is a box but that layer gets something other than the `pixels`.
        """
        self.chosen, self.box = chosen, box
        self.merged = {call: call.source for call in calls if call.source is not None and _mergeable(call.source, call)}
        self.waiting: dict[Call, Tensor] = {}
        first = next((call for call in calls if call.kind == "weighted"), None)
        if box and (first is None or not torch.equal(first.inputs.detach().flatten(), pixels.detach().flatten())):
            name = "there is none" if first is None else f"{first.name} gets something else"
            raise ConfigError(f"attribution.first=box: the first weighted layer must get the image ({name}); give null")
        self.boxed = first if box else None

    def __call__(self, call: Call, inputs: Tensor, outputs: Tensor) -> Tensor:
        """The output, with the signal of the rule for this kind of layer."""
        if call in self.merged.values():  # its normalisation follows, and both count as one layer
            self.waiting[call] = inputs
            return outputs
        if call in self.merged:
            layer = self.merged[call]
            return self.shared(layer, call, self.waiting.pop(layer), outputs, Affine.of(layer.module, call.module))
        if call.kind == "weighted":
            return self.shared(call, call, inputs, outputs, Affine.of(call.module))
        if call.kind == "activation":
            return with_slope(outputs, inputs, handed_on(call.module.forward, call.inputs))
        return outputs

    def shared(self, layer: Call, end: Call, inputs: Tensor, outputs: Tensor, affine: Affine) -> Tensor:
        """The rule of a weighted layer, from what goes into `layer` to what comes out of `end`, its normalisation."""
        # `true` is the sum z' by which the rule shares, on the graph of the record; `replayed` the same sum as a linear
        # function of the replayed inputs, whose weights w' send the signal back
        sharing, epsilon = self.chosen.of(layer.module), self.chosen.epsilon
        if layer is self.boxed:
            true, replayed = self.in_box(layer.inputs, inputs, affine)
        elif sharing == "epsilon":
            if epsilon == 0:  # R_k / z_k is the signal already: the ordinary gradient distributes it
                return outputs
            true, replayed = end.outputs, outputs
        else:
            above = end.outputs > 0
            true = self.one_sided(layer, end.outputs, affine.positive(layer.inputs, layer.inputs), above)
            replayed = self.one_sided(layer, outputs, affine.positive(inputs, layer.inputs), above)
        # the denominator is moved away from 0 with its sign, so that no share changes sign
        away = torch.where(true < 0, -1.0, 1.0) * max(epsilon, _FLOOR)
        return with_slope(outputs, replayed, end.outputs / (true + away))

    def one_sided(self, layer: Call, whole: Tensor, positive: Tensor, above: Tensor) -> Tensor:
        """Sums by which gamma and z_plus share: the terms of the sign of z count more, or alone."""
        side = torch.where(above, positive, whole - positive)
        return side if self.chosen.of(layer.module) == "z_plus" else whole + self.chosen.gamma * side

    def in_box(self, values: Tensor, inputs: Tensor, affine: Affine) -> tuple[Tensor, Tensor]:
        """z^B: a_j w_jk - low_j w_jk^+ - high_j w_jk^-. What it sends back is the relevance, not its ratio to the value."""
        low, high = (end.reshape(1, *values.shape[1:]).expand_as(values) for end in self.box)
        terms = ((values, affine.weight), (low, -affine.weight.clamp(min=0)), (high, -affine.weight.clamp(max=0)))
        true = [affine.linear(part, weight) for part, weight in terms]
        replayed = [affine.linear(with_slope(part, inputs, part), weight) for part, weight in terms]
        return true[0] + true[1] + true[2], replayed[0] + replayed[1] + replayed[2]


def handed_on(function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """z f(z) / (z^2 + f(0)^2) of an activation: f(z) / z, with its pole at 0 cut off where f(0) is not 0."""
    offset = function(torch.zeros_like(values[:1]))  # a PReLU wants its channels
    squares = values.square() + offset.square()
    return values * function(values) / squares.clamp_min(torch.finfo(values.dtype).tiny)


def _mergeable(layer: Call, norm: Call) -> bool:
    flat = isinstance(layer.module, nn.Conv2d) or layer.outputs.dim() == 2
    return layer.kind == "weighted" and norm.kind == "normalisation" and flat
