"""An attack with gradients of another attribution: shows what transfers between attributions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor, nn

from runner.attacks.gradient import GradientAttack
from runner.core.attack_types import Best, Problem
from runner.core.cosine import map_cosines, mean_cosine
from runner.core.errors import require
from runner.core.types import Attribution, PixelNorm, differentiable

_ALIKE = 0.99


@dataclass(frozen=True)
class OtherMapAttack(GradientAttack):
    """Follow the gradient of `objective` on the maps of `attribution`, and keep the image that harms the explained map most.

    If the two maps are the same (a mean cosine above 0.99 on the clean images), the search is skipped.
    """

    attribution: Attribution | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        fit = self.attribution is not None and differentiable(self.attribution)
        require(fit, "attack.attribution", self.attribution, "an attribution whose maps have a gradient")

    def search(self, problem: Problem, epsilon: float, norm: PixelNorm, best: Best) -> Best:
        """The most harmful images, from the search and `best`."""
        if (self.alike(problem) or 0.0) > _ALIKE:
            return best
        return super().search(problem, epsilon, norm, best)

    def alike(self, problem: Problem) -> float | None:
        """Mean cosine of the two maps on the clean images; None where both are zero on all of them."""
        explaining = (problem.explain, self._explain(problem))
        own, other = (explain(problem.model, problem.images, problem.targets, problem.keys) for explain in explaining)
        return mean_cosine(map_cosines(own, other))

    def _ascent(self, problem: Problem) -> Callable[..., Tensor]:
        return super()._ascent(replace(problem, explain=self._explain(problem)))

    def _explain(self, problem: Problem) -> Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]:
        attribution, reduce = self.attribution, problem.reduce
        assert attribution is not None
        return lambda model, images, targets, keys: reduce(attribution(model, images, targets, keys))
