"""Finds a near point on the other side of the decision boundary, by projected gradient ascent in growing l2 balls."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runner.attributions.passes import margins
from runner.core.norms import lengths, normalise, project


@dataclass(frozen=True)
class BoundarySearch:
    """l2 steps of 2 * budget / steps from the image, for each budget in turn, until the label changes (Wang et al., 2021).

    The objective is the log-odds against the target, whose gradient has the direction of the cross-entropy's but no rounding error
    when the prediction is certain. The nearest iterate with another label is kept, then moved back towards the image by
    `bisections` halvings of the segment between them; it stays beyond the boundary.
    """

    budgets: tuple[float, ...]
    steps: int
    bisections: int

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """(N, C, H, W) detached points inside [0, 1]; if every budget fails, the last iterate of the largest.

        An image that is not predicted as its target is moved until it is, across the nearest boundary of the target.
        """
        images = images.detach()
        own = self._own(model, images, targets)
        points, left = images.clone(), torch.arange(len(images), device=images.device)
        for budget in self.budgets:
            walked, crossed = self._walk(model, images[left], targets[left], own[left], budget)
            points[left] = walked
            left = left[~crossed]
            if len(left) == 0:
                break
        return self._draw_back(model, images, points, targets, own)

    def _walk(
        self, model: nn.Module, images: Tensor, targets: Tensor, own: Tensor, budget: float
    ) -> tuple[Tensor, Tensor]:
        """The nearest iterates across the boundary, or else the last ones, and whether they are across it (n,)."""
        points, kept = images, images
        nearest = torch.full_like(images[:, 0, 0, 0], torch.inf)
        sign = torch.where(own, 1.0, -1.0).to(images).reshape(-1, 1, 1, 1)
        for _ in range(self.steps):
            direction = normalise(_ascent(model, points, targets) * sign, "l2")
            points = project(points + direction * (2 * budget / self.steps), images, budget, "l2")
            distance = lengths(points - images, "l2")
            closer = (self._own(model, points, targets) != own) & (distance < nearest)
            nearest = torch.where(closer, distance, nearest)
            kept = torch.where(closer.reshape(-1, 1, 1, 1), points, kept)
        crossed = nearest.isfinite()
        return torch.where(crossed.reshape(-1, 1, 1, 1), kept, points), crossed

    def _draw_back(self, model: nn.Module, images: Tensor, points: Tensor, targets: Tensor, own: Tensor) -> Tensor:
        inside, outside = images, points
        crossed = self._own(model, points, targets) != own
        for _ in range(self.bisections):
            middle = (inside + outside) / 2
            across = ((self._own(model, middle, targets) != own) & crossed).reshape(-1, 1, 1, 1)
            outside = torch.where(across, middle, outside)
            inside = torch.where(across, inside, middle)
        return outside

    @staticmethod
    def _own(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """(N,) whether the target is predicted."""
        with torch.no_grad():
            predicted: Tensor = model(images).argmax(dim=1)
        return predicted == targets


def _ascent(model: nn.Module, points: Tensor, targets: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = points.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(margins(model(leaf), targets).sum(), leaf)
    return gradient
