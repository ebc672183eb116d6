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

    Clamping to the box only shortens a perturbation of a clean image in the box. The result is inside the ball after
    rounding to float32 too: an overstep by rounding is shortened until the float64 length is at most `epsilon`.
    """
    if epsilon == float("inf"):
        return images.clamp(0.0, 1.0)
    if norm == "linf":
        inside = torch.maximum(torch.minimum(images, clean + epsilon), clean - epsilon).clamp(0.0, 1.0)
        over = (inside.double() - clean.double()).abs() > epsilon
        return torch.where(over, torch.nextafter(inside, clean), inside)
    origin, deltas = clean.double(), images.double() - clean.double()
    scale = (epsilon / lengths(deltas, "l2").clamp_min(_FLOOR)).clamp_max(1.0)
    for slack in (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1.0):
        inside = (origin + deltas * _as_column(scale, deltas)).to(clean.dtype).clamp(0.0, 1.0)
        over = perturbation_norms(inside, clean, "l2") > epsilon
        if not over.any():
            break
        scale = torch.where(over, scale * (1.0 - slack), scale)
    return inside


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
