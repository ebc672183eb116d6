"""Projected gradient ascent on the label: adversarial accuracy, for comparison with the robustness of attributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from runner.attacks.engine import ProjectedGradient
from runner.attacks.judge import merge
from runner.core import rng
from runner.core.attack_types import Best, Climb, Problem
from runner.core.errors import require_at_least
from runner.core.types import Budget, Norm


@dataclass(frozen=True)
class LabelAttack:
    """Raise the loss of the predicted class and let the label flip (Madry et al. 2018), without using the attribution.

    `loss`: the cross-entropy, or the `margin` (largest other logit minus the predicted one; Carlini and Wagner 2017). The iterate
    with the largest margin is kept, because its sign says whether the label flipped: a flip is never lost to an iterate without
    one, so the share of flips grows with the budget.
    """

    steps: int = 50
    step_size: float | None = None
    restarts: int = 1
    random_start: bool = False
    loss: Literal["cross_entropy", "margin"] = "cross_entropy"
    order: ClassVar[int] = 1
    measure: ClassVar[str] = "objective"
    preserves_label: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._engine(self.random_start)
        require_at_least("attack.restarts", self.restarts, 1)

    def start(self, problem: Problem) -> Best:
        """The clean images with their margins."""
        harm = _margins_of(problem, problem.images)
        return Best(problem.images, harm, torch.zeros_like(harm, dtype=torch.bool))

    def search(self, problem: Problem, epsilon: float, norm: Norm, best: Best) -> Best:
        """The images with the largest margin, from the search and `best`."""
        for restart in range(self.restarts):
            kept = _Kept(problem, best)
            engine, keys = self._engine(self.random_start or restart > 0), rng.fold(problem.keys, restart)
            engine(
                lambda images, step: self._loss(problem, images), problem.images, epsilon, norm, keys, best.images, kept
            )
            best = kept.best
        return best

    def climbs(self, problem: Problem, epsilon: float, norm: Budget) -> Sequence[Climb]:
        """The ascent of the loss."""

        def observed(points: Tensor) -> Tensor:
            with torch.no_grad():
                logits: Tensor = problem.model(points)
            return logits

        return [Climb(lambda points: self._loss(problem, points), observed, problem.images, epsilon, norm)]

    def _engine(self, random_start: bool) -> ProjectedGradient:
        return ProjectedGradient(self.steps, self.step_size, random_start)

    def _loss(self, problem: Problem, images: Tensor) -> Tensor:
        logits = problem.model(images)
        if self.loss == "margin":
            return margins(logits, problem.targets)
        return F.cross_entropy(logits, problem.targets, reduction="none")


def margins(logits: Tensor, targets: Tensor) -> Tensor:
    """(N,) largest logit of another class minus that of the target: positive if the label flipped."""
    own = F.one_hot(targets, logits.shape[1]).bool()
    others = logits.masked_fill(own, float("-inf")).amax(dim=1)
    return others - logits.gather(1, targets.unsqueeze(1)).squeeze(1)


def _margins_of(problem: Problem, images: Tensor) -> Tensor:
    """(N,) margins, nan where a logit is not finite."""
    with torch.no_grad():
        logits = problem.model(images)
    return margins(logits, problem.targets).masked_fill(~logits.isfinite().all(dim=1), torch.nan)


class _Kept:
    """Keeps the iterate with the largest margin, flipped or not."""

    def __init__(self, problem: Problem, best: Best) -> None:
        self.problem, self.best = problem, best

    def __call__(self, images: Tensor) -> None:
        harm = _margins_of(self.problem, images)
        candidate = replace(self.best, images=images, harm=harm)
        self.best = merge(self.best, candidate, harm > self.best.harm)
