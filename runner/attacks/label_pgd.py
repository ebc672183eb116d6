"""Projected gradient ascent on the label: adversarial accuracy, for comparison with the robustness of attributions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        harm = _finite_margins(_logits(problem, problem.images), problem.targets)
        return Best(problem.images, harm, torch.zeros_like(harm, dtype=torch.bool))

    def search(self, problem: Problem, epsilon: float, norm: Norm, best: Best) -> Best:
        """The images with the largest margin, from the search and `best`."""
        for restart in range(self.restarts):
            ascent = _Ascent(problem, self._loss, best)
            engine, keys = (
                self._engine(self.random_start or restart > 0 or problem.again),
                rng.fold(problem.keys, restart),
            )
            last = engine(ascent, problem.images, epsilon, norm, keys, best.images)
            ascent.keep(last, _logits(problem, last))
            best = ascent.best
        return best

    def climbs(self, problem: Problem, epsilon: float, norm: Budget) -> Sequence[Climb]:
        """The ascent of the loss."""

        def loss(points: Tensor) -> Tensor:
            return self._loss(problem.model(points), problem.targets)

        return [Climb(loss, lambda points: _logits(problem, points), problem.images, epsilon, norm)]

    def _engine(self, random_start: bool) -> ProjectedGradient:
        return ProjectedGradient(self.steps, self.step_size, random_start)

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.loss == "margin":
            return margins(logits, targets)
        return F.cross_entropy(logits, targets, reduction="none")


def margins(logits: Tensor, targets: Tensor) -> Tensor:
    """(N,) largest logit of another class minus that of the target: positive if the label flipped."""
    own = F.one_hot(targets, logits.shape[1]).bool()
    others = logits.masked_fill(own, float("-inf")).amax(dim=1)
    return others - logits.gather(1, targets.unsqueeze(1)).squeeze(1)


def _finite_margins(logits: Tensor, targets: Tensor) -> Tensor:
    """(N,) margins, nan where a logit is not finite."""
    return margins(logits, targets).masked_fill(~logits.isfinite().all(dim=1), torch.nan)


def _logits(problem: Problem, images: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = problem.model(images)
    return logits


class _Ascent:
    """The loss of one ascent. Keeps the iterate with the largest margin, flipped or not: one pass gives loss and margin."""

    def __init__(self, problem: Problem, loss: Callable[[Tensor, Tensor], Tensor], best: Best) -> None:
        self.problem, self.loss, self.best = problem, loss, best

    def __call__(self, images: Tensor, step: int) -> Tensor:
        """(N,) losses. The start of an ascent is no candidate: it is the best image so far, or random."""
        logits = self.problem.model(images)
        if step > 0:
            self.keep(images.detach(), logits.detach())
        return self.loss(logits, self.problem.targets)

    def keep(self, images: Tensor, logits: Tensor) -> None:
        """Keep these images where their margin is larger."""
        harm = _finite_margins(logits, self.problem.targets)
        if self.problem.trace is not None:
            self.problem.trace.see(torch.ones_like(self.best.found), harm)
        self.best = merge(self.best, replace(self.best, images=images, harm=harm), harm > self.best.harm)
