"""Balls: project onto them, normalise a gradient to their steepest direction, sample uniformly from them.

The steepest step and the projection of the l2 and linf balls follow Madry et al. (2018); uniform sampling in the l2 ball
follows the radius law r = epsilon * u^(1/d) on a normalised Gaussian (Muller 1959).
"""

from __future__ import annotations

import torch
from torch import Tensor

from runner.core import rng
from runner.core.types import Norm

_FLOOR = 1e-12


def lengths(deltas: Tensor, norm: Norm) -> Tensor:
    """(N,) norms of (N, ...) perturbations, in their own precision."""
    flat = deltas.flatten(1)
    return flat.norm(dim=1) if norm == "l2" else flat.abs().amax(dim=1)


def perturbation_norms(images: Tensor, clean: Tensor, norm: Norm) -> Tensor:
    """(N,) float64 norms of `images - clean`, computed in float64 so that rounding cannot hide an overstep."""
    return lengths(images.double() - clean.double(), norm)


def normalise(gradients: Tensor, norm: Norm) -> Tensor:
    """Direction of steepest ascent of unit norm: the sign for linf, g / ||g|| for l2; zero stays zero."""
    if norm == "linf":
        return gradients.sign()
    return gradients / _as_column(lengths(gradients, "l2").clamp_min(_FLOOR), gradients)


def project(images: Tensor, clean: Tensor, epsilon: float, norm: Norm) -> Tensor:
    """The nearest images inside the ball around `clean`, then inside the box [0, 1].

    Clamping to the box only shortens a perturbation of a clean image in the box. The result lies inside the ball after
    rounding to float32 too: a pixel that rounding moved outwards is stepped back by one unit in the last place.
    """
    if epsilon == float("inf"):
        return images.clamp(0.0, 1.0)
    origin = clean.double()
    deltas = images.double() - origin
    if norm == "linf":
        deltas = deltas.clamp(-epsilon, epsilon)
    else:
        scale = (epsilon * (1.0 - 1e-12) / lengths(deltas, "l2").clamp_min(_FLOOR)).clamp_max(1.0)
        deltas = deltas * _as_column(scale, deltas)
    inside = (origin + deltas).clamp(0.0, 1.0).to(clean.dtype)
    over = (inside.double() - origin).abs() > deltas.abs()
    return torch.where(over, torch.nextafter(inside, clean), inside)


def sample_ball(keys: Tensor, shape: tuple[int, ...], epsilon: float, norm: Norm) -> Tensor:
    """(N, *shape) uniform in the ball of radius `epsilon`; numbers depend on the keys alone."""
    if norm == "linf":
        return rng.uniform(keys, shape).mul_(2.0).sub_(1.0).mul_(epsilon)
    direction = normalise(rng.normal(keys, shape), "l2")
    radius = rng.uniform(rng.fold(keys, 0), (1,)).double().pow(1.0 / direction[0].numel()).float()
    return direction * _as_column(radius.squeeze(1) * epsilon, direction)


def sample_corner(keys: Tensor, shape: tuple[int, ...], epsilon: float, norm: Norm) -> Tensor:
    """(N, *shape) random signs scaled to the surface of the ball: the random baseline of Ghorbani et al. (2019)."""
    signs = rng.normal(keys, shape).sign()
    return signs * epsilon if norm == "linf" else signs * (epsilon / signs[0].numel() ** 0.5)


def _as_column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *([1] * (like.dim() - 1)))
