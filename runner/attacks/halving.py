"""Projected gradient ascent with adaptive halving of the step: APGD of Croce and Hein (ICML 2020).

"Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks", Algorithm 1 and section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from runner.attacks.engine import Objective, ProjectedGradient, Visit, leave_flat, values_and_direction
from runner.core import rng
from runner.core.norms import normalise, project
from runner.core.types import PixelNorm

_MOMENTUM = 0.75
_RISING = 0.75
_FIRST_STEP = 2.0


@dataclass(frozen=True)
class HalvingAscent(ProjectedGradient):
    """Long steps with momentum; an example that stops improving halves its step and continues from its best point.

    This happens at a checkpoint if fewer than three quarters of the steps since the last one raised the objective, or if neither
    the step nor the best value has changed. `step_size` is the first step, relative to epsilon; null means 2, as published.
    There is one gradient per step.
    """

    def __call__(
        self,
        objective: Objective,
        clean: Tensor,
        epsilon: float,
        norm: PixelNorm,
        keys: Tensor,
        start: Tensor | None = None,
        visit: Visit | None = None,
    ) -> Tensor:
        """The last iterate (N, C, H, W), from `start` (default: the clean images) or from a random point."""
        images = self.begin(clean if start is None else start, clean, epsilon, norm, keys)
        previous, path, checkpoints = images, _Path(images, self.length(epsilon, 0)), self.checkpoints()
        for step in range(self.steps):
            values, gradients = values_and_direction(objective, images, step)
            path.see(images, values, leave_flat(gradients, rng.fold(keys, step + 1)))
            if step in checkpoints:
                images = path.halve(images)
            ahead = project(images + path.step * normalise(path.gradients, norm), clean, epsilon, norm)
            if step > 0:
                drift = _MOMENTUM * (ahead - images) + (1 - _MOMENTUM) * (images - previous)
                ahead = project(images + drift, clean, epsilon, norm)
            previous, images = images, ahead
            if visit is not None:
                visit(images)
        return images

    def length(self, epsilon: float, step: int) -> float:
        """The first step. Errors: `ConfigError` without a budget."""
        super().length(epsilon, step)
        return epsilon * (self.step_size or _FIRST_STEP)

    def checkpoints(self) -> frozenset[int]:
        """The checkpoints: steps at 22, 41, 57, 70, ... hundredths of all, rounded up; gaps shrink to 6 hundredths."""
        hundredths = [0, 22]
        while hundredths[-1] < 100:
            hundredths.append(hundredths[-1] + max(hundredths[-1] - hundredths[-2] - 3, 6))
        return frozenset(-(-share * self.steps // 100) for share in hundredths[1:-1])


class _Path:
    """The state of each example in one ascent: its step, its best point, and its progress since the last checkpoint."""

    def __init__(self, images: Tensor, step: float) -> None:
        nothing = images.new_full((len(images),), -math.inf)
        self.step = images.new_full((len(images), *[1] * (images.dim() - 1)), step)
        self.gradients = self._best_gradients = torch.zeros_like(images)
        self._best, self._best_values, self._values = images, nothing, -nothing
        self._rises, self._moves = torch.zeros_like(nothing), -1  # the first point is not a move
        self._seen_values, self._halved = nothing, torch.zeros_like(nothing, dtype=torch.bool)

    def see(self, images: Tensor, values: Tensor, gradients: Tensor) -> None:
        """Record the objective (N,) and its gradient (N, C, H, W) at the current point."""
        self._rises += (values > self._values).to(values.dtype)
        self._moves += 1
        better = values > self._best_values
        self._best, self._best_gradients = (
            _pick(better, images, self._best),
            _pick(better, gradients, self._best_gradients),
        )
        self._best_values = torch.where(better, values, self._best_values)
        self._values, self.gradients = values, gradients

    def halve(self, images: Tensor) -> Tensor:
        """`images`, with the best point for the examples whose step was just halved."""
        stuck = ~self._halved & (self._best_values == self._seen_values)
        halved = stuck | (self._rises < _RISING * self._moves)
        self.step = _pick(halved, self.step / 2, self.step)
        self.gradients = _pick(halved, self._best_gradients, self.gradients)
        self._values = torch.where(halved, self._best_values, self._values)
        self._seen_values, self._halved = self._best_values, halved
        self._rises, self._moves = torch.zeros_like(self._rises), 0
        return _pick(halved, self._best, images)


def _pick(choice: Tensor, chosen: Tensor, other: Tensor) -> Tensor:
    """Example by example, `chosen` where `choice` (N,) says so, else `other`."""
    return torch.where(choice.reshape(-1, *[1] * (other.dim() - 1)), chosen, other)
