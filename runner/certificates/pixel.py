"""Certified pixels: sparsified maps smoothed as a segmentation, with a test for every pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from scipy.stats import binom
from torch import Tensor

from runner.certificates import applies
from runner.certificates.concentration import sample_at_least
from runner.certificates.gaussian import shifted
from runner.certificates.sampling import draws
from runner.core.errors import require, require_at_least
from runner.core.types import Attribution, Subject

_ROUNDING = 1e-6
ABSTAIN, LOW, HIGH = -1, 0, 1


@dataclass(frozen=True, kw_only=True)
class CertifiedPixels:
    """Pixels whose label, in or out of the top `tau`, holds for most of the noise (Anani et al. 2025, arXiv 2506.15499).

    As in randomised smoothing for segmentation: the mode of `pilot` draws is tested on the other `samples - pilot` ones, a
    one-sided binomial test of P(label) > `threshold` per pixel at `alpha` / pixels (Bonferroni); the others abstain. A
    certified label is the majority label everywhere within R = sigma * Phi^-1(threshold). The note `certified` is the share
    of certified pixels (0 beyond R).

    Bound of the top-k intersection: within epsilon < R a certified HIGH pixel keeps h_i >= Phi(Phi^-1(threshold) -
    epsilon / sigma) > 1/2, and a LOW one 1 - h_i likewise. If Chernoff bounds of the reported maps' means stay on their
    side of 1/2 too, every HIGH pixel lies above every LOW one in both maps. With c HIGH and u abstaining pixels the two
    sets of k largest then share at least min(c, k - u) pixels when c <= k, and 2k - c - u when c > k (see `shared`).
    `alpha` is spent three times, on the labels and on both reported maps: confidence = 1 - 3 alpha.

    The paper's sparse maps have one value a pixel: one channel, or `attribution.features=pixels`. `attribution.tau` is its K.
    """

    k: int
    reduction: str
    channels: int
    pilot: int = 10
    samples: int = 100
    threshold: float = 0.75
    alpha: float = 0.001
    chunk: int = 1024
    bounds: ClassVar[str] = "topk_intersection"

    def __post_init__(self) -> None:
        for key in ("k", "channels", "pilot", "samples", "chunk"):
            require_at_least(f"certificate.{key}", getattr(self, key), 1)
        require(self.samples > self.pilot, "certificate.samples", self.samples, f"above certificate.pilot={self.pilot}")
        applies.require_share("certificate.threshold", self.threshold, 0.5)
        require(0.0 < self.alpha < 1 / 3, "certificate.alpha", self.alpha, "above 0 and below 1/3")

    @property
    def confidence(self) -> float:
        """Probability that the bound of an example holds."""
        return 1.0 - 3.0 * self.alpha

    def check(self, attribution: Attribution, norm: str, reduction: str) -> None:
        """Errors: `ConfigError` for all but sparsified SmoothGrad of pixels with constant noise, l2 balls."""
        applies.require_kind("pixel", attribution, "SparsifiedSmoothGrad", "sigma", "samples", "features")
        features = getattr(attribution, "features", "values")
        single = self.channels == 1 or features == "pixels"
        require(single, "attribution.features", features, "pixels for images of several channels")
        applies.require_constant_noise(attribution)
        applies.size_of(attribution, "sigma")
        applies.require_norm(norm)
        applies.require_reduction("certificate.reduction", self.reduction, reduction)

    def __call__(self, subject: Subject, epsilons: Sequence[float]) -> Tensor:
        """(N, E) float64 bounds in [0, 1]."""
        return self.annotate(subject, epsilons)[0]

    def annotate(self, subject: Subject, epsilons: Sequence[float]) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The bounds, and as `certified` the share of certified pixels."""
        masks = torch.cat(
            [maps.abs().sum(dim=2).flatten(2) for maps in draws(subject, self.samples, self.chunk)], dim=1
        )
        labels = self.labels(masks > 0.5)
        high, silent = ((labels == kind).sum(dim=1).double() for kind in (HIGH, ABSTAIN))
        overlap = shared(high, silent, self.k) / self.k
        share = (labels != ABSTAIN).double().mean(dim=1)
        apart, within = (
            torch.tensor(flags).double() for flags in zip(*map(self._reach(subject), epsilons), strict=True)
        )
        apart, within = apart.to(share.device), within.to(share.device)
        return overlap.unsqueeze(1) * apart, {"certified": share.unsqueeze(1) * within}

    def labels(self, masks: Tensor) -> Tensor:
        """(N, samples, P) draws of whether a pixel is in the top -> (N, P) HIGH, LOW or ABSTAIN."""
        first, rest = masks[:, : self.pilot], masks[:, self.pilot :]
        mode = 2 * first.sum(dim=1) > self.pilot
        agree = (rest == mode.unsqueeze(1)).sum(dim=1)
        chances = binom.sf(agree.cpu().numpy() - 1, rest.shape[1], self.threshold)
        sure = torch.from_numpy(chances).to(masks.device) <= self.alpha / masks.shape[2]
        return torch.where(sure, mode.long(), ABSTAIN)

    def _reach(self, subject: Subject) -> _Reach:
        attribution: Any = subject.attribution
        tail = self.alpha / subject.images[0, 0].numel()
        return _Reach(self.threshold, applies.size_of(attribution, "sigma"), int(attribution.samples), tail)


@dataclass(frozen=True)
class _Reach:
    """epsilon -> whether HIGH and LOW pixels stay apart in maps of `samples` draws, and in the exact map."""

    threshold: float
    sigma: float
    samples: int
    tail: float

    def __call__(self, epsilon: float) -> tuple[bool, bool]:
        level = shifted(torch.tensor([self.threshold], dtype=torch.float64), -epsilon / self.sigma)
        sampled = sample_at_least(level, self.samples, self.tail)
        return bool(sampled > 0.5 + _ROUNDING), bool(level >= 0.5)


def shared(high: Tensor, silent: Tensor, k: int) -> Tensor:
    """(N,) at least so many pixels are in the k largest of both of two maps that put every HIGH above every LOW pixel.

    A map's k largest hold a LOW pixel only if they hold all c HIGH ones. So they either hold all HIGH pixels, or lie among
    the c + u that are not LOW. Two sets of the first kind share c, of the second 2k - c - u, one of each k - u; the first
    kind needs c <= k.
    """
    both = (2 * k - high - silent).clamp_min(0.0)
    return torch.where(high <= k, torch.minimum(high, k - silent).clamp_min(0.0), both)
