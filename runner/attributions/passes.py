"""Passes over the samples of each image: a map is the sum of the results of all passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from runner.core.chunking import held, passes, recomputed
from runner.core.frozen_passes import cheap_derivatives
from runner.core.shared_pass import note

Output = Literal["logit", "probability"]

OnePass = Callable[[Tensor, slice, int, int, bool], Tensor]
"""(images (n, C, H, W), their place in the batch, first sample, number of samples, create_graph) -> (n, ...)."""


def in_passes(
    model: nn.Module, images: Tensor, samples: int, chunk: int | None, one_pass: OnePass
) -> Iterator[tuple[int, Tensor]]:
    """(first sample, result) of passes of at most `chunk` images; those of an example follow each other, from sample 0.

    Differentiable once in the images and the parameters when grad mode is on and the images require grad, else detached.
    With several passes, graphs are kept if all of them fit the memory (`runner.core.chunking.holding`). Else the backward pass
    recomputes each pass, so that `chunk` also bounds the memory of an attack step.
    """
    differentiable = torch.is_grad_enabled() and images.requires_grad
    plan = list(passes(len(images), samples, chunk))
    for part, first, count in plan:

        def bound(
            chosen: Tensor, create_graph: bool, part: slice = part, first: int = first, count: int = count
        ) -> Tensor:
            return one_pass(chosen, part, first, count, create_graph)

        if not differentiable:
            yield first, bound(images[part].detach(), False).detach()
        elif len(plan) == 1 or held(len(images) * samples):
            yield first, bound(images[part], True)
        else:
            yield first, recomputed(model, bound, images[part])


def summed(model: nn.Module, images: Tensor, samples: int, chunk: int | None, one_pass: OnePass) -> Tensor:
    """(N, ...) sums over all samples of what `one_pass` returns for its share."""
    totals: list[Tensor] = []
    for first, result in in_passes(model, images, samples, chunk, one_pass):
        if first == 0:
            totals.append(result)
        else:
            totals[-1] = totals[-1] + result
    return torch.cat(totals)


def leaves(places: Tensor, create_graph: bool) -> Tensor:
    """(n, count, C, H, W) -> (n * count, C, H, W) to differentiate in: on the graph of the images, or a new leaf."""
    flat = places.flatten(0, 1)
    return flat if create_graph else flat.detach().requires_grad_()


def logits_at(model: nn.Module, flat: Tensor) -> Tensor:
    """(n, K) logits at (n, C, H, W), with the graph that a map is differentiated in."""
    with cheap_derivatives(model):
        logits: Tensor = model(flat)
    note(model, flat, logits)
    return logits


def output_gradients(model: nn.Module, places: Tensor, targets: Tensor, output: Output, create_graph: bool) -> Tensor:
    """(n, count, C, H, W) gradients of the targets' (n,) outputs at `places` (n, count, C, H, W)."""
    with torch.enable_grad():
        flat = leaves(places, create_graph)
        logits = logits_at(model, flat)
        scores = logits if output == "logit" else logits.softmax(dim=1)
        chosen = scores.gather(1, targets.repeat_interleave(places.shape[1]).unsqueeze(1))
        (gradients,) = torch.autograd.grad(chosen.sum(), flat, create_graph=create_graph)
    return gradients.reshape(places.shape)


def margins(logits: Tensor, targets: Tensor) -> Tensor:
    """(N,) log-odds against the target, log((1 - p) / p): the cross-entropy is their softplus.

    Unlike that of the cross-entropy, its gradient keeps its precision when p is near 1.
    """
    others = logits.scatter(1, targets.unsqueeze(1), -torch.inf).logsumexp(dim=1)
    return others - logits.gather(1, targets.unsqueeze(1)).squeeze(1)
