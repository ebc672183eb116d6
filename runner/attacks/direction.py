"""Measures, before an attack walks, whether its gradient leads anywhere.

A gradient attack whose gradient is zero, or of another function than the map, walks at random, and the model looks robust. So the
objective is evaluated along the gradient and along random directions of equal length, at a few examples. After Carlini et al.
(2019), "On Evaluating Adversarial Robustness", section 5: gradient attacks must beat random ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from runner.core import rng
from runner.core.attack_types import Climb, Problem
from runner.core.norms import normalise, sample_ball
from runner.core.types import PixelNorm

EXAMPLES = 32
"""Examples that are measured, the first of a chunk (the test order is balanced by class)."""
USABLE, STRONG = 0.6, 0.8
"""Shares of random directions that a gradient must beat to be usable, and not to be called weak. One that means nothing beats half
of them, exact gradients of this project's attributions 0.9 to 1, and the relaxed ones (`exact_gradient = False`) about 0.7."""
_DRAWS = 4
_LENGTHS = (1.0, 0.1, 0.01)
_LARGEST = 0.01
"""Longest step, as a change of every pixel in [0, 1]: further away a true gradient need not say anything."""
_STREAM = 6_000_011


@dataclass(frozen=True)
class Direction:
    """What the gradient of one climb is worth, for n examples."""

    zero: Tensor
    """(n,) bool: the gradient is zero."""
    broken: Tensor
    """(n,) bool: the gradient is not finite."""
    constant: Tensor
    """(n,) bool: what is attacked (the map, or the logits) does not change at random points of the ball."""
    beats: float
    """Share of the random directions that the gradient beats at the best length, over the examples that change."""

    @property
    def usable(self) -> bool:
        """Whether the gradient is there and leads further than chance, for the examples that change at all."""
        changing = ~self.constant
        there = changing & ~self.zero & ~self.broken
        return not bool(changing.any()) or (bool(there.any()) and self.beats > USABLE)


def sample(problem: Problem) -> Problem:
    """The problem of the first `EXAMPLES` examples."""
    few = {name: getattr(problem, name)[:EXAMPLES] for name in ("images", "targets", "partners", "keys")}
    return replace(problem, **few, stored=None, watch=None, trace=None)


def best_direction(climbs: Sequence[Climb], keys: Tensor) -> Direction:
    """The direction of the climb that beats chance most often. `keys` (n,): of the examples."""
    found = [_direction(climb, keys) for climb in climbs]
    return max(found, key=lambda direction: (direction.usable, direction.beats))


def _direction(climb: Climb, keys: Tensor) -> Direction:
    clean = climb.clean
    norm: PixelNorm = "linf" if climb.norm == "linf" else "l2"
    size = clean[0].numel()
    length = min(climb.epsilon, _LARGEST * (1.0 if norm == "linf" else size**0.5))
    shape = tuple(clean.shape[1:])
    draws = [
        sample_ball(rng.fold(keys, _STREAM + draw), shape, 1.0, norm).to(clean.dtype) for draw in range(_DRAWS + 1)
    ]
    # not at the clean images, where the gradient of a distance from their maps is zero by nature
    start = (clean + length * draws[-1]).clamp(0.0, 1.0)
    gradient = _gradient(climb, start)
    broken = ~gradient.flatten(1).isfinite().all(dim=1)
    gradient = torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
    zero = gradient.flatten(1).abs().amax(dim=1).eq(0) & ~broken
    reach = length if climb.epsilon == float("inf") else climb.epsilon
    constant = ~torch.stack([_moves(climb, (clean + reach * draw).clamp(0.0, 1.0)) for draw in draws]).any(dim=0)
    constant |= (
        climb.observed(clean).detach().flatten(1).eq(0).all(dim=1)
    )  # a saturated probability has no map to change
    chosen = ~(constant | zero | broken)
    ahead, others = normalise(gradient, norm), [normalise(draw, norm) for draw in draws[:-1]]
    shares = [_beaten(climb, start, ahead, others, factor * length)[chosen] for factor in _LENGTHS]
    beats = max((float(share.mean()) for share in shares if len(share)), default=0.0)
    return Direction(zero=zero, broken=broken, constant=constant, beats=beats)


def _gradient(climb: Climb, points: Tensor) -> Tensor:
    """(n, ...) gradients of the objective; zeros if it does not depend on the points for autograd."""
    leaf = points.detach().requires_grad_(True)
    with torch.enable_grad():
        values = climb.objective(leaf)
        if not values.requires_grad:
            return torch.zeros_like(points)
        (gradient,) = torch.autograd.grad(values.sum(), leaf, allow_unused=True, materialize_grads=True)
    return gradient


def _moves(climb: Climb, points: Tensor) -> Tensor:
    """(n,) whether what is attacked differs from that of the clean images, beyond rounding."""
    first, second = (climb.observed(images).detach().flatten(1) for images in (climb.clean, points))
    scale = torch.maximum(first.abs().amax(dim=1), second.abs().amax(dim=1))
    return (first - second).abs().amax(dim=1) > 1e-6 * scale


def _beaten(climb: Climb, start: Tensor, ahead: Tensor, others: Sequence[Tensor], length: float) -> Tensor:
    """(n,) shares of the other directions along which the objective ends lower than along `ahead`."""
    own = _value(climb, start + length * ahead)
    return torch.stack([own > _value(climb, start + length * other) for other in others]).double().mean(dim=0)


def _value(climb: Climb, points: Tensor) -> Tensor:
    return climb.objective(points.clamp(0.0, 1.0).detach()).detach()
