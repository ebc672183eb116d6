"""SmoothGrad of probabilities cannot move faster than 0.484 / sigma^2: a bound on the change of its maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runner.certificates import applies
from runner.certificates.deviation import Bounded, Sampled
from runner.certificates.gaussian import shifted
from runner.core.errors import require, require_at_least, require_positive
from runner.core.types import Attribution, Subject

SLOPE = 4.0 / math.sqrt(2.0 * math.pi * math.e)
"""E|Z^2 - 1| = 0.9679 for a standard normal Z."""


@dataclass(frozen=True, kw_only=True)
class SmoothGradLipschitz:
    """Upper bound of `cosine_distance` or `l2_ratio` of SmoothGrad maps of a probability.

    The expected map h(x) = E df(x + e)/dx, e ~ N(0, sigma^2 I), has the Jacobian E f(x + e) (e e^T / sigma^4 - I /
    sigma^2); along a unit vector it is E f (Z^2 - 1) / sigma^2, so ||h(x) - h(x')|| <= 0.9679 F / sigma^2 ||x - x'|| where
    |f| <= F (the constant 2 of Wang et al., NeurIPS 2020, Theorem 2, sharpened). E(Z^2 - 1) = 0, so f - 1/2 has the same
    Jacobian and probabilities have F = 1/2; a probability that is 1 exactly where |Z| > 1 reaches this.

    Reported maps are means of `attribution.samples` gradients. Their sampling errors are bounded by concentration of
    bounded vectors (`concentration.vector_error`), which needs the longest possible gradient: `gradient_bound`, or null for
    the product of the layers' norms (`lipschitz.gradient_bound`). The second moment at x' follows from that at x by
    Phi(Phi^-1(.) + epsilon / sigma). `confidence` is that of the bound of the maps as they are reported, given that the
    attack did not see the evaluation's draws; the note `smoothed` bounds the expected maps. Reductions over C channels
    enlarge distances by at most sqrt(C).
    """

    reduction: str
    bounds: Bounded = "cosine_distance"
    confidence: float = 0.95
    samples: int = 8192
    gradient_bound: float | None = None
    chunk: int = 1024

    def __post_init__(self) -> None:
        for key in ("samples", "chunk"):
            require_at_least(f"certificate.{key}", getattr(self, key), 1)
        applies.require_share("certificate.confidence", self.confidence)
        require_positive("certificate.gradient_bound", self.gradient_bound, "above 0, or null to compute it")

    def check(self, attribution: Attribution, norm: str, reduction: str) -> None:
        """Errors: `ConfigError` for all but SmoothGrad of probabilities with constant noise, l2 balls."""
        applies.require_kind("smoothgrad_lipschitz", attribution, "SmoothGrad", "sigma", "samples", "output")
        output = getattr(attribution, "output", None)
        require(output == "probability", "attribution.output", output, "probability: logits have no bound")
        applies.require_constant_noise(attribution)
        applies.size_of(attribution, "sigma")
        applies.require_norm(norm)
        applies.require_reduction("certificate.reduction", self.reduction, reduction)

    def __call__(self, subject: Subject, epsilons: Sequence[float]) -> Tensor:
        """(N, E) float64 bounds."""
        return self.annotate(subject, epsilons)[0]

    def annotate(self, subject: Subject, epsilons: Sequence[float]) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The bounds, and as `smoothed` those of the expected maps."""
        sampled = Sampled.of(subject, self.samples, self.chunk, self.gradient_bound)
        moving = GaussianMovement(applies.size_of(subject.attribution, "sigma"))
        found, exact = sampled.bounds(self.bounds, self.reduction, moving, epsilons, 1.0 - self.confidence)
        return found, {"smoothed": exact}


@dataclass(frozen=True)
class GaussianMovement:
    """Expectations over N(0, sigma^2 I), of gradients of a function with values in [0, 1]."""

    sigma: float

    def distance(self, epsilon: float) -> Tensor:
        """() bound of the distance of two expected gradients."""
        return torch.tensor(0.5 * SLOPE / self.sigma**2 * epsilon, dtype=torch.float64)

    def share(self, means: Tensor, epsilon: float) -> Tensor:
        """(N,) Phi(Phi^-1(means) + epsilon / sigma)."""
        return shifted(means, epsilon / self.sigma)
