"""Turns a bound on the change of a smoothed map into bounds on the metrics of two sampled, reduced maps.

With h the expected map, h^ the certificate's estimate of it at the clean image x, and a, b the reported maps of x and of a
perturbed x' (means of a few draws): a lies within its sampling error of h(x), b within its own and the bound of ||h(x') -
h(x)|| of h(x), and ||h(x)|| is at least ||h^|| less the error of the estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from runner.certificates.applies import CHANNEL_SUMS
from runner.certificates.concentration import mean_at_most, vector_error
from runner.certificates.lipschitz import gradient_bound
from runner.certificates.sampling import moments
from runner.core.types import Subject

Bounded = Literal["cosine_distance", "l2_ratio"]


class Movement(Protocol):
    """How the expectation over noise moves with the image."""

    def distance(self, epsilon: float) -> Tensor:
        """(N,) bounds of ||h(x') - h(x)||_2 over ||x' - x||_2 <= epsilon."""

    def share(self, means: Tensor, epsilon: float) -> Tensor:
        """(N,) the largest E g(x') for a g in [0, 1] with E g(x) = means."""


@dataclass(frozen=True)
class Sampled:
    """The sampled facts of one batch: estimate (N, C, H, W), mean squared norm of a draw (N,), longest draw (N,)."""

    estimate: Tensor
    square: Tensor
    longest: Tensor
    count: int
    """Draws behind the estimate."""
    reported: int
    """Draws behind each reported map."""

    @classmethod
    def of(cls, subject: Subject, count: int, chunk: int, longest: float | None) -> Sampled:
        """`count` draws of the subject's maps; `longest` None takes the bound of the gradient from the model's layers."""
        attribution: Any = subject.attribution
        estimate, square = moments(subject, count, chunk)
        if longest is None:
            lengths = gradient_bound(subject.model, subject.images, subject.targets, attribution.output)
        else:
            lengths = torch.full_like(square, longest)
        return cls(estimate, square, lengths, count, int(attribution.samples))

    def bounds(
        self, which: Bounded, reduction: str, movement: Movement, epsilons: Sequence[float], tail: float
    ) -> tuple[Tensor, Tensor]:
        """(N, E) bounds of the metric of the reported maps, failing with probability <= tail; and of the expected maps.

        Four statements share the tail: the estimate's error, its second moment, and the errors of both reported maps.
        """
        part = tail / 4.0
        ceiling = self.longest.square().clamp_min(torch.finfo(torch.float64).tiny)
        square = mean_at_most((self.square / ceiling).clamp(max=1.0), self.count, part)
        errors = [vector_error(square * ceiling, self.longest, n, part) for n in (self.count, self.reported)]
        gain = lipschitz_of(reduction, self.estimate.shape[1])
        least = (reduced_length(self.estimate, reduction) - gain * errors[0]).clamp_min(0.0)
        found = []
        for epsilon in epsilons:
            moved, moment = movement.distance(epsilon), movement.share(square, epsilon) * ceiling
            late = vector_error(moment, self.longest, self.reported, part)
            reports = _Radii(least, gain * errors[1], gain * (moved + late))
            expected = _Radii(least, torch.zeros_like(least), gain * moved)
            found.append((reports.bound(which, reduction), expected.bound(which, reduction)))
        return torch.stack([pair[0] for pair in found], dim=1), torch.stack([pair[1] for pair in found], dim=1)


def lipschitz_of(reduction: str, channels: int) -> float:
    """Largest ratio of distances of reduced maps and of maps: sqrt(C) for sums over channels, 1 for the largest channel."""
    return float(channels**0.5) if reduction in CHANNEL_SUMS else 1.0


def reduced_length(maps: Tensor, reduction: str) -> Tensor:
    """(N,) l2 norms of reduced maps (N, C, H, W)."""
    if reduction == "abs_max":
        flat = maps.abs().amax(dim=1)
    elif reduction == "abs_sum":
        flat = maps.abs().sum(dim=1)
    else:
        flat = maps.sum(dim=1)  # its sign does not change its length
    lengths: Tensor = flat.flatten(1).norm(dim=1)
    return lengths


@dataclass(frozen=True)
class _Radii:
    """Least length of the reduced expected map at x, and radii around it of the two maps. All (N,)."""

    least: Tensor
    clean: Tensor
    perturbed: Tensor

    def bound(self, which: Bounded, reduction: str) -> Tensor:
        return self.cosine_distance(reduction) if which == "cosine_distance" else self.l2_ratio()

    def cosine_distance(self, reduction: str) -> Tensor:
        """A vector within r < |v| of v makes an angle of at most asin(r / |v|) with it; angles add.

        If a radius reaches the origin, the bound is trivial: 1 for non-negative maps, 2 for signed ones.
        """
        nothing = 2.0 if reduction == "sum" else 1.0
        floor = torch.finfo(torch.float64).tiny
        sines = [radius / self.least.clamp_min(floor) for radius in (self.clean, self.perturbed)]
        angle = sum(sine.clamp(max=1.0).asin() for sine in sines)
        known = (sines[0] < 1.0) & (sines[1] < 1.0)
        distance = 1.0 - torch.as_tensor(angle).clamp(max=torch.pi).cos()
        return torch.where(known, distance.clamp(max=nothing), nothing)

    def l2_ratio(self) -> Tensor:
        """||b - a|| / ||a||; infinite where a could be zero."""
        least = self.least - self.clean
        floor = torch.finfo(torch.float64).tiny
        ratio = (self.clean + self.perturbed) / least.clamp_min(floor)
        return torch.where(least > 0, ratio, float("inf"))
