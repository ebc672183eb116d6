"""The first-order estimate of the worst change of a map: epsilon times the largest singular value of its Jacobian."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from runner.certificates import applies
from runner.certificates.deviation import Bounded
from runner.core import rng
from runner.core.errors import ConfigError, require, require_at_least
from runner.core.types import Attribution, Subject, differentiable

_FLOOR = 1e-30


@dataclass(frozen=True, kw_only=True)
class FirstOrder:
    """An estimate, not a certificate (confidence null): exact only for maps that are linear within the ball.

    z(x + d) - z(x) = J d + o(||d||), so ||dz|| is at most epsilon * sigma_max(J) to first order: the l2 case of Wang and Kong
    (CVPR 2023, arXiv 2303.00340). `l2_ratio`: epsilon sigma / ||z||; `cosine_distance`: 1 - sqrt(1 - (epsilon sigma /
    ||z||)^2), and 1 from epsilon sigma = ||z|| on. An attack may go past either, and often stays below.

    sigma_max by `iterations` power iterations on J^T J, with products J u and J^T v of the reduced map: all examples at
    once, at most `chunk` at a time. J of a piecewise linear network is not informative, so J is that of the softplus twin with
    `beta`; null uses the model itself. A stochastic map keeps its draws.
    """

    bounds: Bounded = "cosine_distance"
    beta: float | None = 30.0
    iterations: int = 20
    chunk: int = 64
    twin: Callable[..., Any] | None = None
    confidence: ClassVar[None] = None

    def __post_init__(self) -> None:
        for key in ("iterations", "chunk"):
            require_at_least(f"certificate.{key}", getattr(self, key), 1)
        good = self.beta is None or (self.beta > 0 and self.twin is not None)
        require(good, "certificate.beta", self.beta, "above 0 and with certificate.twin, or null for the model itself")

    def check(self, attribution: Attribution, norm: str, reduction: str) -> None:
        """Errors: `ConfigError` for maps without a gradient, maps in several passes, balls that are not l2."""
        applies.require_norm(norm)
        require(differentiable(attribution), "attribution", type(attribution).__name__, "one with a gradient")
        chunk = getattr(attribution, "chunk", None)
        require(chunk is None, "attribution.chunk", chunk, "null: products with the Jacobian need a map in one pass")

    def __call__(self, subject: Subject, epsilons: Sequence[float]) -> Tensor:
        """(N, E) float64 estimates."""
        parts = torch.arange(len(subject.images), device=subject.images.device).split(self.chunk)
        ratios = torch.cat([self.ratio(subject, part) for part in parts])
        steps = ratios.unsqueeze(1) * torch.tensor(epsilons, dtype=torch.float64, device=ratios.device)
        steps = steps.nan_to_num(nan=0.0, posinf=float("inf"))
        return steps if self.bounds == "l2_ratio" else 1.0 - (1.0 - steps.clamp(max=1.0).square()).sqrt()

    def ratio(self, subject: Subject, part: Tensor) -> Tensor:
        """(n,) float64 sigma_max(dz/dx) / ||z|| of the examples `part`; infinite where z is zero and moves."""
        model = subject.model
        if self.twin is not None and self.beta is not None:
            model = self.twin(model, self.beta).eval()
        images = subject.images[part].detach().clone().requires_grad_()
        with torch.enable_grad():
            maps = subject.explain(model, images, subject.targets[part], subject.keys[part])
            sigma = largest_singular_value(maps, images, subject.keys[part], self.iterations)
        lengths: Tensor = maps.detach().double().flatten(1).norm(dim=1)
        return sigma / lengths.clamp_min(_FLOOR)


def largest_singular_value(maps: Tensor, images: Tensor, keys: Tensor, iterations: int) -> Tensor:
    """(n,) float64 largest singular values of d maps[i] / d images[i], by power iterations from a random start.

    J^T v is a gradient; J u is the gradient in v of <J^T v, u>, which is linear in v.
    Errors: `ConfigError` where the map does not depend on the image, as that of a logit of a piecewise linear network.
    """
    weights = torch.zeros_like(maps, requires_grad=True)
    pulled = _gradient(maps, images, weights, create_graph=True)
    vectors = _unit(rng.normal(keys, images.shape[1:]).to(images))
    lengths = torch.zeros(len(images), dtype=torch.float64, device=images.device)
    for _ in range(iterations):
        pushed = _gradient(pulled, weights, vectors).detach()
        lengths = pushed.double().flatten(1).norm(dim=1)
        vectors = _unit(_gradient(maps, images, pushed))
    return lengths


def _gradient(outputs: Tensor, inputs: Tensor, upstream: Tensor, create_graph: bool = False) -> Tensor:
    found: tuple[Tensor | None, ...] = (None,)
    if outputs.requires_grad:
        found = torch.autograd.grad(
            outputs, inputs, upstream, retain_graph=True, create_graph=create_graph, allow_unused=True
        )
    if found[0] is None:
        raise ConfigError(
            "certificate.beta=null: must be above 0 for this network, whose map is constant between its kinks"
        )
    return found[0]


def _unit(vectors: Tensor) -> Tensor:
    lengths = vectors.detach().flatten(1).norm(dim=1).clamp_min(_FLOOR)
    unit: Tensor = vectors.detach() / lengths.reshape(-1, *([1] * (vectors.dim() - 1)))
    return unit
