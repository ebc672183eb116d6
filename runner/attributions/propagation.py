"""Backward passes with a rule for each layer, for maps that are not gradients of the network.

Two forward passes of the unchanged network: `record` keeps the inputs and outputs of every layer, on the true graph of the
images; `replay` runs it again, and a rule decides how each layer propagates its signal backwards. The replayed values are the
true ones. The signals are linear in the layers' replayed inputs, with factors from the record, so they can be differentiated in
the images, through the true network. Hooks exist only during the passes.

Code between layers (additions, padding, reshaping) propagates its ordinary gradient and must be linear: activations must be
modules, as everywhere in this project.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from runner.attributions.layers import Kind, kind_of, layers
from runner.core.interception import only


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer: its input and output, and the call before it if that produced its input."""

    name: str
    module: nn.Module
    kind: Kind
    inputs: Tensor
    outputs: Tensor
    source: Call | None


Rule = Callable[[Call, Tensor, Tensor], Tensor]
"""(recorded call, replayed input, replayed output of the layer) -> output with the signal of the rule."""


class Ruled(nn.Module):
    """A network whose forward pass is another function of the images; its parameters are those of the network."""

    def __init__(self, network: nn.Module, run: Callable[[Tensor], Tensor]) -> None:
        """`run`: images -> logits, by `record` and `replay`."""
        super().__init__()
        self.network = network
        self.run = run

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) with the values of the network and the signals of the rules."""
        return self.run(images)


def record(network: nn.Module, images: Tensor, name: str = "") -> list[Call]:
    """The calls of all layers, in order; `name` is that of the network inside its model.

    Errors: `ConfigError` naming a layer that cannot have a rule.
    """
    calls: list[Call] = []
    names = layers(network, name)
    before: list[Tensor] = []
    kinds: dict[nn.Module, Kind] = {}

    def keep(module: nn.Module, inputs: tuple[Any, ...], outputs: Tensor) -> None:
        if module not in kinds:
            kinds[module] = kind_of(names[module], module, inputs)
        # the same tensor, not an equal one: only then is there nothing between the two layers
        source = calls[-1] if before and before[0] is inputs[0] else None
        before[:] = [outputs]
        # a copy: later code may modify the output in place
        calls.append(Call(names[module], module, kinds[module], inputs[0], outputs.clone(), source))

    with hooked(names, keep):
        network(images)
    return calls


def replay(network: nn.Module, images: Tensor, calls: list[Call], rule: Rule) -> Tensor:
    """Logits (N, K) of the recorded images, whose gradient in the images is the signal of the rules."""
    following, busy = iter(calls), [False]

    def apply(module: nn.Module, inputs: tuple[Any, ...], outputs: Tensor) -> Tensor:
        if busy[0]:  # a rule calls the layer with other weights
            return outputs
        busy[0] = True
        try:
            return rule(next(following), inputs[0], outputs)
        finally:
            busy[0] = False

    with hooked(layers(network), apply):
        logits: Tensor = network(images)
    return logits


def with_slope(values: Tensor, inputs: Tensor, slopes: Tensor) -> Tensor:
    """`values`, with derivative `slopes` in `inputs` (of the same shape) and no other derivative.

    The signal upstream * slopes can itself be differentiated, through the slopes.
    """
    result: Tensor = _WithSlope.apply(values, inputs, slopes)  # type: ignore[no-untyped-call]
    return result


class _WithSlope(torch.autograd.Function):
    """A forward pass of true values and a backward pass of given slopes; the backward pass is differentiable itself.

    No gradient goes to `values` (the layer's own would be added), nor to `slopes`: only the signal depends on them, and the second
    backward pass differentiates that.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, inputs: Tensor, slopes: Tensor) -> Tensor:
        ctx.save_for_backward(slopes)
        return values.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[None, Tensor, None]:
        return None, upstream * ctx.saved_tensors[0], None


def derivative(function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """f'(values) of a function of each value alone, differentiable in the values."""
    with torch.enable_grad():
        at = values if values.requires_grad else values.detach().requires_grad_()
        (slopes,) = torch.autograd.grad(function(at).sum(), at, create_graph=True)
    return slopes if values.requires_grad else slopes.detach()


def secant(function: Callable[[Tensor], Tensor], values: Tensor, reference: Tensor) -> Tensor:
    """(f(values) - f(reference)) / (values - reference), or f' between them if these are within 1e-6.

    In double precision, because for a soft f the difference of nearby values and its derivative are below the rounding error
    of float32.
    """
    wide, other = values.double(), reference.double()
    gap = wide - other
    near = gap.abs() < 1e-6
    slopes = (function(wide) - function(other)) / gap.where(~near, 1.0)
    if near.any():
        slopes = derivative(function, (wide + other) / 2).where(near, slopes)
    return slopes.to(values.dtype)


@contextmanager
def hooked(layers: dict[nn.Module, str], hook: Callable[..., Any]) -> Iterator[None]:
    """A forward hook on every layer, for as long as the context lasts. It is no part of the network: see `interception`."""

    def outside(*arguments: Any) -> Any:
        with only(None):
            return hook(*arguments)

    handles = [module.register_forward_hook(outside) for module in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
