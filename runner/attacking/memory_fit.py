"""Fits the examples of a chunk, and the images of a pass, to the memory of the machine before a search starts."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from runner.attacking.setup import Setup
from runner.core.chunking import holding
from runner.core.frozen_passes import cheap_derivatives
from runner.core.memory_use import peak_bytes, total_bytes

SHARE = 1 / 3
"""Of the memory, for the tensors of a step; with the workspaces of its operations, a process grew by 1.5 times as much."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fit:
    """How much is computed at once."""

    chunk: int
    """Examples of a chunk."""
    images: int | None = None
    """Images whose graphs fit the memory together; None if that is unknown."""

    def applied(self, setup: Setup) -> Setup:
        """The setup, with maps in passes of at most that many images, whose graphs are kept where all of them fit."""
        if self.images is None:
            return setup
        images, attribution = self.images, cast("Any", setup.attribution)
        if _in_passes(attribution):
            attribution = replace(attribution, chunk=min(attribution.chunk or images, images))

        def explain(model: nn.Module, given: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
            with holding(images):
                return setup.reduce(attribution(model, given, targets, keys))

        return replace(setup, explain=explain)


def fitted(setup: Setup, chunk: int) -> Fit:
    """Chunks of at most `chunk` examples, all of whose samples fit the memory at once where those of one example do."""
    images = images_at_once(setup)
    if images is None:
        return Fit(chunk)
    samples = samples_of(setup.attribution) if setup.attack.order > 1 else 1  # else no graph outlives its pass
    fit = Fit(min(chunk, images // samples or images), images)
    if fit.chunk < chunk or images < (getattr(setup.attribution, "chunk", None) or 0):
        text = "attack.chunk=%d: %d at a time, in passes of at most %d images, fit the memory"
        log.info(text, chunk, fit.chunk, images)
    return fit


def images_at_once(setup: Setup) -> int | None:
    """Images that fit their share of the memory, with the derivatives that the attack takes; None if it cannot be tried.

    It depends on the memory that there is, not on what is free: a run that is continued, or done again, finds the same number.
    """
    network = setup.model if setup.beta is None else setup.twin(setup.beta)
    images, _, ids = setup.test.batch(torch.arange(min(2, len(setup.test))), setup.device)
    computed = _logits if _in_passes(setup.attribution) else _map(setup, setup.keys(ids, "attack"))
    twice = setup.attack.order > 1
    try:
        sizes = [peak_bytes(_step(network, computed, part, twice)) for part in (images[:1], images)]
    except Exception:  # code of the user's fails, and does so again where the attack says what it means
        return None
    each = max(sizes[-1] - sizes[0], 1) if len(images) > 1 else sizes[0]
    return max(1, int((_room(setup.device) - (sizes[0] - each)) / each))


def samples_of(attribution: Any) -> int:
    """Images that the map of one image passes through the network: noisy copies, or points of a path."""
    stated = getattr(attribution, "samples", None) or getattr(attribution, "steps", None)
    return stated if isinstance(stated, int) and _in_passes(attribution) else 1


def _in_passes(attribution: Any) -> bool:
    """Whether the attribution bounds its passes itself."""
    return "chunk" in getattr(attribution, "__dataclass_fields__", {})


def _room(device: torch.device) -> float:
    """Bytes for the tensors of a step. On a CPU, a process that uses a part of the cores takes that part of the memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    part = 1.0 if device.type == "cuda" else min(1.0, torch.get_num_threads() / cores)
    return SHARE * part * total_bytes(device)


def _logits(network: nn.Module, images: Tensor, twice: bool) -> Tensor:
    """(N,) gradients' sums of squares with `twice`, else logits' sums: a map's graph, whatever it does with the gradients."""
    with cheap_derivatives(network):
        logits: Tensor = network(images)
    if not twice or not logits.requires_grad:
        return logits
    (slope,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return slope.square()


def _map(setup: Setup, keys: Tensor) -> Callable[[nn.Module, Tensor, bool], Tensor]:
    def computed(network: nn.Module, images: Tensor, twice: bool) -> Tensor:
        with torch.set_grad_enabled(twice):
            targets = network(images).detach().argmax(dim=1)
            return setup.explain(network, images, targets, keys[: len(images)])

    return computed


def _step(network: nn.Module, computed: Callable[..., Tensor], images: Tensor, twice: bool) -> Callable[[], None]:
    """What an attack computes at some images, and the gradient of it."""

    def step() -> None:
        leaf = images.clone().requires_grad_()
        with torch.enable_grad():
            found = computed(network, leaf, twice)
        if found.requires_grad:
            torch.autograd.grad(found.sum(), leaf, allow_unused=True)

    return step
