"""A map and a look at the logits share one forward pass, where the map makes one at the images themselves.

An attack needs both of every iterate: the map that it changes, and the logits, whose label it must preserve. Saliency passes the
images as they are, so its logits are noted; integrated gradients pass other points, so the logits take a pass of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runner.core.types import Explain


@dataclass
class _Wanted:
    """The logits that are wanted, and what has been noted."""

    network: nn.Module
    images: Tensor
    logits: Tensor | None = None


_WANTED: ContextVar[_Wanted | None] = ContextVar("logits that a map may note", default=None)


def note(network: nn.Module, images: Tensor, logits: Tensor) -> None:
    """Called by a map that has passed images through the network as it is, with the graph that it differentiates."""
    wanted = _WANTED.get()
    if wanted is not None and network is wanted.network and _same(images, wanted.images):
        wanted.logits = logits


def map_and_logits(
    explain: Explain, network: nn.Module, images: Tensor, targets: Tensor, keys: Tensor
) -> tuple[Tensor, Callable[[], Tensor]]:
    """Map (N, H, W) and, when asked for, logits (N, K) of the images (N, C, H, W).

    Both are differentiable in the images if these require gradients and grad mode is on; the logits are else detached.
    """
    with _wanting(network, images) as wanted:
        maps = explain(network, images, targets, keys)

    def logits() -> Tensor:
        differentiable = torch.is_grad_enabled() and images.requires_grad
        with torch.set_grad_enabled(differentiable):
            found: Tensor = network(images) if wanted.logits is None else wanted.logits
        return found if differentiable else found.detach()

    return maps, logits


@contextmanager
def _wanting(network: nn.Module, images: Tensor) -> Iterator[_Wanted]:
    wanted = _Wanted(network, images)
    token = _WANTED.set(wanted)
    try:
        yield wanted
    finally:
        _WANTED.reset(token)


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether both are the same numbers in memory, as a view of the images is."""
    return (
        one.shape == other.shape
        and one.stride() == other.stride()
        and one.dtype == other.dtype
        and one.data_ptr() == other.data_ptr()
    )
