"""Uniformly smoothed gradients: a bound from the overlap of the noise regions of two images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from scipy.special import betainc
from torch import Tensor

from runner.certificates import applies
from runner.certificates.deviation import Sampled
from runner.core.errors import require_at_least, require_positive
from runner.core.types import Attribution, Subject


@dataclass(frozen=True, kw_only=True)
class UniformCosine:
    """Upper bound of the cosine distance of uniformly smoothed gradients, after Wang and Kong (2024, arXiv 2405.06361).

    Theirs: for attributions with ||g|| <= M smoothed over an l2 ball, cos >= ||h|| / sqrt(||h||^2 + (M V_U / V_S)^2), known
    to us from summaries only; a vector at distance D from h may have the cosine sqrt(1 - (D / ||h||)^2), which is less. The
    bound used here is ours: h(x') - h(x) is the integral of g against the difference of two uniform densities, so

        ||h(x') - h(x)|| <= D = 2 M TV,    cos(h(x), h(x')) >= sqrt(1 - (D / ||h(x)||)^2)  when D < ||h(x)||,

    where TV is the share of one noise region that lies outside the other one. Ball of radius r in d dimensions: TV = 1 -
    I_(1 - (eps / 2r)^2)((d + 1) / 2, 1/2), two spherical caps. Cube: TV = 1 - prod(1 - |delta_i| / 2r), at most 1 - (1 -
    eps / (2 r sqrt(d)))^d for eps <= r (ln(1 - sqrt(s)) is convex for s <= 1/4, so equal shares are worst); 1 beyond.

    M bounds the gradient of the explained output: `gradient_bound`, or null for the product of the layers' norms. Sampling
    errors of the reported maps are included as in `smoothgrad_lipschitz`; the note `smoothed` bounds the expected maps.
    TV grows with sqrt(d) eps / r: only noise much wider than the perturbation certifies anything.
    """

    reduction: str
    confidence: float = 0.95
    samples: int = 8192
    gradient_bound: float | None = None
    chunk: int = 1024
    bounds: ClassVar[str] = "cosine_distance"

    def __post_init__(self) -> None:
        for key in ("samples", "chunk"):
            require_at_least(f"certificate.{key}", getattr(self, key), 1)
        applies.require_share("certificate.confidence", self.confidence)
        require_positive("certificate.gradient_bound", self.gradient_bound, "above 0, or null to compute it")

    def check(self, attribution: Attribution, norm: str, reduction: str) -> None:
        """Errors: `ConfigError` for all but uniform gradients with constant noise and no factor x, l2 balls."""
        applies.require_kind("uniform_cosine", attribution, "UniformGradient", "radius", "samples", "shape", "output")
        applies.require_constant_noise(attribution)
        applies.size_of(attribution, "radius")
        applies.require_norm(norm)
        applies.require_reduction("certificate.reduction", self.reduction, reduction)

    def __call__(self, subject: Subject, epsilons: Sequence[float]) -> Tensor:
        """(N, E) float64 bounds."""
        return self.annotate(subject, epsilons)[0]

    def annotate(self, subject: Subject, epsilons: Sequence[float]) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The bounds, and as `smoothed` those of the expected maps."""
        attribution: Any = subject.attribution
        sampled = Sampled.of(subject, self.samples, self.chunk, self.gradient_bound)
        radius, shape = applies.size_of(attribution, "radius"), str(attribution.shape)
        moving = UniformMovement(radius, shape, subject.images[0].numel(), sampled.longest)
        found, exact = sampled.bounds("cosine_distance", self.reduction, moving, epsilons, 1.0 - self.confidence)
        return found, {"smoothed": exact}


@dataclass(frozen=True)
class UniformMovement:
    """Expectations over a cube or a ball, of gradients no longer than `longest` (N,)."""

    radius: float
    shape: str
    dimensions: int
    longest: Tensor

    def distance(self, epsilon: float) -> Tensor:
        """(N,) 2 M TV."""
        return 2.0 * self.longest * total_variation(epsilon, self.radius, self.dimensions, self.shape)

    def share(self, means: Tensor, epsilon: float) -> Tensor:
        """(N,) means + TV, at most 1."""
        return (means + total_variation(epsilon, self.radius, self.dimensions, self.shape)).clamp(max=1.0)


def total_variation(epsilon: float, radius: float, dimensions: int, shape: str) -> float:
    """The largest share of a cube (half side `radius`) or ball outside its copy, moved by at most epsilon in l2."""
    if shape == "cube":
        if epsilon > radius:
            return 1.0
        return -math.expm1(dimensions * math.log1p(-epsilon / (2.0 * radius * math.sqrt(dimensions))))
    half = epsilon / (2.0 * radius)
    return 1.0 if half >= 1.0 else 1.0 - float(betainc((dimensions + 1) / 2.0, 0.5, 1.0 - half * half))
