"""Bounds the memory of maps and defenses: passes of limited size through a network, and passes that keep no graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

OnePass = Callable[[Tensor, bool], Tensor]
"""(images, create_graph) -> (n, ...), computed from a gradient; differentiable in the images with `create_graph`."""


_HELD: ContextVar[int] = ContextVar("images whose graphs fit the memory at once", default=0)


@contextmanager
def holding(images: int) -> Iterator[None]:
    """Inside, passes over no more than that many images in all keep their graphs, which costs less than to recompute them."""
    token = _HELD.set(images)
    try:
        yield
    finally:
        _HELD.reset(token)


def held(images: int) -> bool:
    """Whether the graphs of that many images may be kept."""
    return images <= _HELD.get()


def passes(examples: int, samples: int, chunk: int | None) -> Iterator[tuple[slice, int, int]]:
    """(examples, first sample, number of samples) of each pass of at most `chunk` images; None for a single pass."""
    limit = examples * samples if chunk is None else chunk
    size = max(1, min(examples, limit))
    for start in range(0, examples, size):
        part = slice(start, min(start + size, examples))
        step = max(1, limit // (part.stop - part.start))
        for first in range(0, samples, step):
            yield part, first, min(step, samples - first)


def recomputed(model: nn.Module, one_pass: OnePass, images: Tensor) -> Tensor:
    """`one_pass(images)` without its graph; the backward pass repeats the computation and builds the graph then.

    Differentiable once, in the images and in the parameters of `model` that require gradients.
    """
    # the parameters must be inputs to get gradients; frozen ones cost nothing
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    result: Tensor = _Recomputed.apply(one_pass, images, *trained)  # type: ignore[no-untyped-call]
    return result


class _Recomputed(torch.autograd.Function):
    """A pass whose graph exists only during its own backward pass, so that memory holds one graph at a time.

    `torch.utils.checkpoint` gives the same gradient but runs the pass three times instead of two: the gradient taken inside
    it already recomputes what the checkpoint dropped.
    """

    @staticmethod
    def forward(ctx: Any, one_pass: OnePass, images: Tensor, *parameters: Tensor) -> Tensor:
        ctx.one_pass = one_pass
        ctx.save_for_backward(images, *parameters)
        return one_pass(images.detach(), False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        saved, *parameters = ctx.saved_tensors
        with torch.enable_grad():
            images = saved.detach().requires_grad_()
            maps = ctx.one_pass(images, True)
        if not maps.requires_grad:  # a linear model's gradient depends on nothing
            return (None, torch.zeros_like(saved), *(None for _ in parameters))
        inputs = (images, *parameters)
        return (None, *torch.autograd.grad(maps, inputs, upstream, allow_unused=True, materialize_grads=True))
