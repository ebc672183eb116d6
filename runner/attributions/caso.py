"""CASO: the perturbation that raises the loss most to second order, sparse and small (Singla et al., ICML 2019).

For piecewise-linear logits the Hessian of the cross-entropy in the input is W (diag(p) - p p^T) W^T exactly, with W (D, K)
the gradients of the logits and p the probabilities; for curved models that product is its Gauss-Newton part, which is
positive semi-definite too.

Shapes: n examples, S noisy copies of each, K classes, D = C * H * W. slopes (n * S, K, D); `curvature` (n, S, 1 + K, D), the
gradient above the rows B of H = B^T B; factor (n, S * K, D), the rows of all copies. H itself, (D, D), is never formed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runner.attributions.cafo import Cafo, soft
from runner.attributions.options import amount
from runner.attributions.passes import in_passes, leaves, logits_at
from runner.core.errors import require, require_at_least
from runner.core.grid import Number


@dataclass(frozen=True, kw_only=True)
class Caso(Cafo):
    """argmax over D of g^T D + D^T H D / 2 - lambda1 ||D||_1 - (lambda2 + L / 2) ||D||_2^2, with L the top eigenvalue of H.

    L / 2 makes the problem strictly concave for every H. g and H are means over the noisy images. Solved by `steps` of
    accelerated proximal gradient from 0, of length `learning_rate` or at most 1 / (2 lambda2 + L), at which every step is certain
    to improve (the released code finds a length by backtracking).
    """

    steps: int = 10
    learning_rate: Number = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("attribution.steps", self.steps, 1)
        length = amount("attribution.learning_rate", self.learning_rate)
        require(length > 0, "attribution.learning_rate", self.learning_rate, "above 0")

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        """(N, C, H, W) signed perturbations; the noise of an example depends on its key in `keys` (N,) alone.

        Needs one backward pass per class, and memory for samples * K gradients of each image in a pass.
        """

        # nested passes: a group of examples needs the rows of all its copies before it is solved; a pass computes some of them
        def one_group(chosen: Tensor, group: slice, _: int, __: int, ___: bool) -> Tensor:
            def one_pass(some: Tensor, part: slice, first: int, count: int, create_graph: bool) -> Tensor:
                places = self.noise.points(some, keys[group][part], first, count)
                return curvature(model, places, targets[group][part], create_graph)

            parts = [rows for _, rows in in_passes(model, chosen, self.samples, self.chunk, one_pass)]
            rows = torch.cat(parts, dim=1)
            # dividing every row by sqrt(S) makes B^T B the mean of the copies' Hessians
            return self.solve(rows[:, :, 0].mean(dim=1), rows[:, :, 1:].flatten(1, 2) / self.samples**0.5)

        whole = None if self.chunk is None else max(1, self.chunk // self.samples)
        maps = [result for _, result in in_passes(model, images, 1, whole, one_group)]
        solved = torch.cat(maps).reshape(images.shape)
        return solved * images if self.multiply_by_input else solved

    def solve(self, gradient: Tensor, factor: Tensor) -> Tensor:
        """(n, D) solutions, from g (n, D) and the rows B (n, R, D) of H = B^T B."""
        bend = 2 * amount("attribution.lambda2", self.lambda2) + top_eigenvalue(factor).unsqueeze(1)
        length = bend.reciprocal().clamp_max(amount("attribution.learning_rate", self.learning_rate))
        weight = length * self.weight_l1(gradient)
        current = previous = torch.zeros_like(gradient)
        for step in range(self.steps):
            momentum = max(step - 1, 0) / (step + 2)
            ahead = current + momentum * (current - previous)
            hessian_product = torch.einsum("nrd,nr->nd", factor, torch.einsum("nrd,nd->nr", factor, ahead))
            rise = gradient + hessian_product - bend * ahead
            current, previous = soft(ahead + length * rise, weight), current
        return current


def curvature(model: nn.Module, places: Tensor, targets: Tensor, create_graph: bool) -> Tensor:
    """(n, count, 1 + K, D): the gradient g of the cross-entropy, and below it the rows B of its Hessian B^T B.

    With v_c = w_c - w_target: g = sum_c p_c v_c, and row c is sqrt(p_c) (v_c - g). Subtracting the target's gradient first avoids
    cancellation when the prediction is certain.
    """
    count = places.shape[1]
    with torch.enable_grad():
        flat = leaves(places, create_graph)
        logits = logits_at(model, flat)
        last = logits.shape[1] - 1
        columns = [
            torch.autograd.grad(
                logits[:, c].sum(), flat, create_graph=create_graph, retain_graph=create_graph or c < last
            )[0]
            for c in range(last + 1)
        ]
        slopes = torch.stack(columns, dim=1).flatten(2)
        own = targets.repeat_interleave(count).reshape(-1, 1, 1).expand(-1, 1, slopes.shape[2])
        slopes = slopes - slopes.gather(1, own)
        log_p = logits.log_softmax(dim=1)
        gradient = torch.einsum("nk,nkd->nd", log_p.exp(), slopes).unsqueeze(1)
        rows = (log_p / 2).exp().unsqueeze(2) * (slopes - gradient)
    return torch.cat((gradient, rows), dim=1).reshape(len(places), count, last + 2, -1)


def top_eigenvalue(factor: Tensor) -> Tensor:
    """(n,) largest eigenvalue of B^T B, from the rows B (n, R, D): of the smaller of the two Gram matrices."""
    wide = factor.shape[1] <= factor.shape[2]
    gram = factor @ factor.transpose(1, 2) if wide else factor.transpose(1, 2) @ factor
    largest: Tensor = torch.linalg.eigvalsh(gram)[:, -1]
    return largest.clamp_min(0.0)
