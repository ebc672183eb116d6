"""Balls: project onto them, normalise a gradient to their steepest direction, sample uniformly from them.

The steepest step and the projection of the l2 and linf balls follow Madry et al. (2018); uniform sampling in the l2 ball
follows the radius law r = epsilon * u^(1/d) on a normalised Gaussian (Muller 1959). The l0 ball counts a pixel once for all its
channels; its projection is that of PGD_0 (Croce and Hein 2019, "Sparse and Imperceivable Adversarial Attacks").
"""

from __future__ import annotations

import torch
from torch import Tensor

from runner.core import rng
from runner.core.types import PixelNorm

_FLOOR = 1e-12


def lengths(deltas: Tensor, norm: PixelNorm) -> Tensor:
    """(N,) norms of (N, ...) perturbations, in their dtype; l0 needs (N, C, H, W)."""
    if norm == "l0":
        return deltas.ne(0).any(dim=1).flatten(1).sum(dim=1).to(deltas.dtype)
    flat = deltas.flatten(1)
    return flat.norm(dim=1) if norm == "l2" else flat.abs().amax(dim=1)


def perturbation_norms(images: Tensor, clean: Tensor, norm: PixelNorm) -> Tensor:
    """(N,) norms of `images - clean`, in float64 so that rounding cannot hide a perturbation that is too large."""
    return lengths(images.double() - clean.double(), norm)


def normalise(gradients: Tensor, norm: PixelNorm) -> Tensor:
    """Direction of steepest ascent with unit norm: the sign for linf, g / ||g|| for l2; zero stays zero.

    For l0, where all multiples of a step have the same norm: g / max |g|, so that steps are in units of [0, 1] images.
    """
    if norm == "linf":
        return gradients.sign()
    if norm == "l0":
        return gradients / _as_column(lengths(gradients, "linf").clamp_min(_FLOOR), gradients)
    return gradients / _as_column(lengths(gradients, "l2").clamp_min(_FLOOR), gradients)


def project(images: Tensor, clean: Tensor, epsilon: float, norm: PixelNorm) -> Tensor:
    """The nearest images inside the ball around `clean`, then inside the box [0, 1].

    Clamping to the box can only shorten the perturbation of a clean image in the box. The result lies inside the ball even after
    rounding to float32: a pixel that rounding moved outwards is moved back by one unit in the last place.
    """
    if epsilon == float("inf"):
        return images.clamp(0.0, 1.0)
    if norm == "l0":
        return _keep_pixels(images, clean, int(epsilon))
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


def _keep_pixels(images: Tensor, clean: Tensor, count: int) -> Tensor:
    """The nearest images in the box that differ from `clean` in at most `count` pixels.

    Pixels are kept in the order of how much that reduces the distance to the wanted image:
    ||wanted - clean||^2 - ||wanted - clamped||^2 over the channels.
    """
    inside = images.clamp(0.0, 1.0)
    wanted = images.double()
    worth = (wanted - clean.double()).square().sum(dim=1) - (wanted - inside.double()).square().sum(dim=1)
    return torch.where(_largest(worth, count).unsqueeze(1), inside, clean)


def _largest(values: Tensor, count: int) -> Tensor:
    """(N, H, W) bool: the `count` pixels of each image with the largest values; ties never add more."""
    flat = values.flatten(1)
    chosen = flat.topk(min(count, flat.shape[1]), dim=1).indices
    return torch.zeros_like(flat, dtype=torch.bool).scatter_(1, chosen, True).reshape(values.shape)


def sample_ball(keys: Tensor, shape: tuple[int, ...], epsilon: float, norm: PixelNorm) -> Tensor:
    """(N, *shape) uniform in the ball of radius `epsilon`; the numbers depend only on the keys.

    For l0: `epsilon` random pixels with values uniform in [-1, 1] in every channel.
    """
    if norm == "l0":
        values = rng.uniform(keys, shape).mul_(2.0).sub_(1.0)
        return values * _random_pixels(keys, shape, epsilon)
    if norm == "linf":
        return rng.uniform(keys, shape).mul_(2.0).sub_(1.0).mul_(epsilon)
    direction = normalise(rng.normal(keys, shape), "l2")
    radius = rng.uniform(rng.fold(keys, 0), (1,)).double().pow(1.0 / direction[0].numel()).float()
    return direction * _as_column(radius.squeeze(1) * epsilon, direction)


def sample_corner(keys: Tensor, shape: tuple[int, ...], epsilon: float, norm: PixelNorm) -> Tensor:
    """(N, *shape) random signs scaled to the surface of the ball: the random baseline of Ghorbani et al. (2019).

    For l0: `epsilon` random pixels moved by 1 in every channel, which clamping to [0, 1] moves to the corners of the box.
    """
    signs = rng.normal(keys, shape).sign()
    if norm == "l0":
        return signs * _random_pixels(keys, shape, epsilon)
    return signs * epsilon if norm == "linf" else signs * (epsilon / signs[0].numel() ** 0.5)


def _random_pixels(keys: Tensor, shape: tuple[int, ...], epsilon: float) -> Tensor:
    """(N, 1, H, W) bool: `epsilon` random pixels per image; they include those of any smaller epsilon."""
    return _largest(rng.uniform(rng.fold(keys, 0), shape[-2:]), int(epsilon)).unsqueeze(1)


def _as_column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *([1] * (like.dim() - 1)))
