"""The engine of all gradient maps: a weighted sum of input gradients at points derived from each image.

Saliency uses one point per image, integrated gradients a path, SmoothGrad and UniGrad random points. The points of a batch go
through the model together, at most `chunk` images per pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from runner.attributions.passes import Output, output_gradients, summed

Points = Callable[[Tensor, Tensor, int, int], Tensor]
"""(images (n, C, H, W), keys (n,), first, count) -> (n, count, C, H, W): points first .. first+count-1 of each."""


def weighted_gradients(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    keys: Tensor,
    *,
    points: Points,
    weights: Sequence[float],
    output: Output,
    chunk: int | None,
) -> Tensor:
    """(N, C, H, W) sums over s of weights[s] * d output_target / d point, at the `len(weights)` points of each image.

    Differentiable, and bounded by `chunk`, as `runner.attributions.passes.in_passes` says.
    """

    def one_pass(chosen: Tensor, part: slice, first: int, count: int, create_graph: bool) -> Tensor:
        places = points(chosen, keys[part], first, count)
        gradients = output_gradients(model, places, targets[part], output, create_graph)
        scale = torch.tensor(weights[first : first + count], dtype=images.dtype, device=images.device)
        return torch.einsum("ns...,s->n...", gradients, scale)

    return summed(model, images, len(weights), chunk, one_pass)
