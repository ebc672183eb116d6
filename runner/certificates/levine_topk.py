"""The rank certificate of sparsified SmoothGrad: pixels that stay among the k largest for every perturbation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from runner.certificates import applies
from runner.certificates.concentration import hoeffding, sample_at_least, sample_at_most
from runner.certificates.gaussian import shifted
from runner.core.errors import require_at_least
from runner.core.types import Attribution, Subject

_ROUNDING = 1e-6
"""Larger than the rounding error of float32 means of zeros and ones."""


@dataclass(frozen=True, kw_only=True)
class LevineTopK:
    """Lower bound of the top-k intersection of two *reported* maps (Levine, Singla and Feizi 2019, arXiv 1905.12105).

    Exact maps. h_i(x) = P(i is among the top `tau` of |gradient|) over N(0, sigma^2 I) noise, so h_i(x') lies between
    Phi(Phi^-1(h_i(x)) -+ ||x' - x|| / sigma). h is estimated by `samples` draws within err = sqrt(ln(2n / tail) / 2q)
    (Hoeffding over all n pixels). Let T be the k largest estimates. If m of T leave the k largest of a map, m others enter:
    then the m-th smallest lower bound in T does not exceed the m-th largest upper bound outside. The largest such m bounds
    the loss; for the exact map at x' this counts the i with Phi(Phi^-1(g_i - err) - 2 eps / sigma) - err > g_(2k+1-i), the
    paper's certificate, which the note `smoothed` gives.

    Reported maps are means of `attribution.samples` draws only. Given x', which the attack chose without seeing the draws of
    the evaluation, each lies between Chernoff bounds around h(x'). Both maps are compared with T, and both losses count:
    intersection >= 1 - (loss(clean) + loss(perturbed)) / k. Half of the tail is spent on the estimate and a quarter on each
    map, so `confidence` is the probability that the bound holds for the metric as it is reported.

    Channels: the mean over the channels of a draw is in [0, 1], and all of this holds for it as it stands: so do sums. For
    `abs_max` it is applied to every feature, and the largest of the bounds of a pixel's channels bounds their maximum.
    With `attribution.features=pixels` a draw has one value a pixel, of which each channel carries an equal part.
    """

    k: int
    reduction: str
    confidence: float = 0.95
    samples: int = 8192
    chunk: int = 1024
    bounds: ClassVar[str] = "topk_intersection"

    def __post_init__(self) -> None:
        require_at_least("certificate.k", self.k, 1)
        require_at_least("certificate.samples", self.samples, 1)
        require_at_least("certificate.chunk", self.chunk, 1)
        applies.require_share("certificate.confidence", self.confidence)

    def check(self, attribution: Attribution, norm: str, reduction: str) -> None:
        """Errors: `ConfigError` for all but sparsified SmoothGrad with constant noise, l2 balls, a known reduction."""
        applies.require_kind(
            "levine_topk", attribution, "SparsifiedSmoothGrad", "sigma", "samples", "features", "chunk"
        )
        applies.require_constant_noise(attribution)
        applies.size_of(attribution, "sigma")
        applies.require_norm(norm)
        applies.require_reduction("certificate.reduction", self.reduction, reduction)

    def __call__(self, subject: Subject, epsilons: Sequence[float]) -> Tensor:
        """(N, E) float64 bounds in [0, 1]."""
        return self.annotate(subject, epsilons)[0]

    def annotate(self, subject: Subject, epsilons: Sequence[float]) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The bounds, and as `smoothed` those of the exact maps, with the whole tail spent on the estimate."""
        attribution: Any = subject.attribution
        sigma, tail = applies.size_of(attribution, "sigma"), 1.0 - self.confidence
        own = replace(attribution, samples=self.samples, chunk=self.chunk)
        maps = own(subject.model, subject.images, subject.targets, subject.keys).detach().double()
        levels = _levels(maps, attribution.features, self.reduction)
        half = Levels.around(levels, hoeffding(self.samples, tail / 4.0 / levels[0].numel()))
        whole = Levels.around(levels, hoeffding(self.samples, tail / 2.0 / levels[0].numel()))
        clean = self._loss(levels, half.sampled(attribution.samples, tail / 4.0))
        found, exact = [], []
        for epsilon in epsilons:
            perturbed = half.moved(epsilon / sigma).sampled(attribution.samples, tail / 4.0)
            found.append(1.0 - (clean + self._loss(levels, perturbed)) / self.k)
            exact.append(1.0 - self._loss(levels, whole.moved(epsilon / sigma)) / self.k)
        return torch.stack(found, dim=1).clamp_min(0.0), {"smoothed": torch.stack(exact, dim=1)}

    def _loss(self, levels: Tensor, where: Levels) -> Tensor:
        """(N,) how many of the k largest pixels may leave when every feature may lie anywhere within its bounds."""
        low, high, estimate = (values.amax(dim=1).flatten(1) for values in (where.low, where.high, levels))
        return lost(low, high, estimate, self.k)


@dataclass(frozen=True)
class Levels:
    """Bounds of every feature, (N, C, H, W) each, all holding at once."""

    low: Tensor
    high: Tensor

    @classmethod
    def around(cls, estimate: Tensor, error: float) -> Levels:
        """The estimate plus and minus its error, within [0, 1]."""
        return cls((estimate - error - _ROUNDING).clamp_min(0.0), (estimate + error + _ROUNDING).clamp_max(1.0))

    def moved(self, steps: float) -> Levels:
        """After a perturbation of `steps` standard deviations of the noise."""
        return Levels(shifted(self.low, -steps), shifted(self.high, steps))

    def sampled(self, count: int, tail: float) -> Levels:
        """Of the means of `count` draws; one side of each feature is used, so the tail is shared by all of them."""
        each = tail / self.low[0].numel()
        return Levels(sample_at_least(self.low, count, each), sample_at_most(self.high, count, each))


def _levels(maps: Tensor, features: str, reduction: str) -> Tensor:
    """Expectations of [0, 1] draws, (N, C or 1, H, W), whose largest over dim 1 orders the pixels as the reduced map does."""
    if features == "pixels":
        return maps.sum(dim=1, keepdim=True)
    return maps if reduction == "abs_max" else maps.mean(dim=1, keepdim=True)


def lost(low: Tensor, high: Tensor, estimate: Tensor, k: int) -> Tensor:
    """(N,) float64: at most so many of the k largest of `estimate` (N, P) are not among the k largest within the bounds.

    The count of m for which the m-th smallest `low` among the k does not exceed the m-th largest `high` among the others.
    """
    order = estimate.argsort(dim=1, descending=True, stable=True)
    inside, outside = order[:, :k], order[:, k:]
    pairs = min(k, outside.shape[1])
    lower = low.gather(1, inside).sort(dim=1).values[:, :pairs]
    upper = high.gather(1, outside).sort(dim=1, descending=True).values[:, :pairs]
    return (lower <= upper + _ROUNDING).sum(dim=1).double()
