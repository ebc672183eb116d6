"""Guided backpropagation: the gradient, with negative signals stopped at every activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from runner.attributions.linearity import require_rules
from runner.attributions.options import GradientOptions
from runner.attributions.propagation import Call, Ruled, derivative, record, replay, with_slope
from runner.attributions.saliency import Saliency


@dataclass(frozen=True, kw_only=True)
class GuidedBackprop(GradientOptions):
    """d f_c / dx with the signal g at an activation f(z) sent on as max(g, 0) f'(z) (Springenberg et al., 2015).

    For ReLU this is their rule: only positive signals pass, and only where z > 0. For the softplus of a twin, the second condition
    becomes the factor f'(z), through which the map has a gradient. So the twin's map approaches that of the model as beta grows.
    All other layers keep their gradient.
    """

    stochastic: ClassVar[bool] = False

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        """(N, C, H, W) signed maps; `keys` are not used. Errors: `ConfigError` naming a layer without a rule."""
        guided = Ruled(model, lambda places: replay(model, places, record(model, places), _rule))
        saliency = Saliency(output=self.output, multiply_by_input=self.multiply_by_input, chunk=self.chunk)
        return saliency(guided, images, targets, keys)

    def inspect(self, model: nn.Module, images: Tensor) -> bool:
        """True. Errors: `ConfigError` naming a layer without a rule."""
        require_rules(model, images)
        return True


def _rule(call: Call, inputs: Tensor, outputs: Tensor) -> Tensor:
    if call.kind != "activation":
        return outputs
    passed = with_slope(outputs, inputs, derivative(call.module.forward, call.inputs))
    result: Tensor = _PositiveSignal.apply(passed)  # type: ignore[no-untyped-call]
    return result


class _PositiveSignal(torch.autograd.Function):
    """The identity, with a backward pass that stops negative signals; that pass has the derivative of ReLU."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        return upstream.relu()
