"""SENS-MAX in two ways: the maximum of a ratio over random draws, and the maximum that gradients find."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from runner.attacks.gradient import GradientAttack
from runner.attacks.judge import Judge, merge
from runner.core import rng
from runner.core.attack_types import Best, Problem
from runner.core.errors import require, require_at_least
from runner.core.norms import project, sample_ball
from runner.core.types import PixelNorm

_DRAW_STREAM = 4_000_037


@dataclass(frozen=True)
class SensMax(GradientAttack):
    """Keep the larger of two maxima of |z(x') - z(x)|_2 / |z(x)|_2 in the ball, and note both (Yeh et al. 2019).

    `sampled`: the largest of `samples` uniform draws from the ball, the paper's estimate of SENS-MAX. `gradient`: the largest that
    projected gradient ascent finds, independently of the draws. `quotient` is sampled / gradient, the share of the maximum that
    sampling finds: inf if only ascent found nothing, nan if neither found anything. All are over images that keep the label, on
    the true model; both maxima grow with the budget.
    """

    samples: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("attack.samples", self.samples, 1)
        require(
            self.update == "normalised",
            "attack.update",
            self.update,
            "normalised: a ball without a budget has no draws",
        )
        require(self.measure == "objective", "attack.measure", self.measure, "objective, the ratio itself")
        require(self.keep == "best", "attack.keep", self.keep, "best, since both maxima are")

    def start(self, problem: Problem) -> Best:
        """The clean images, at ratio 0."""
        best = super().start(problem)
        return replace(best, notes=_notes(best.harm, best.harm))

    def search(self, problem: Problem, epsilon: float, norm: PixelNorm, best: Best) -> Best:
        """The largest ratio, from both maxima and `best`."""
        drawn = self._draw(self._judge(problem.beside("sampled", best.notes["sampled"])), epsilon, norm, best)
        climbed = self._climb(problem.beside("gradient", best.notes["gradient"]), epsilon, norm, best)
        sampled = torch.maximum(best.notes["sampled"], drawn.harm)
        gradient = torch.maximum(best.notes["gradient"], climbed.harm)
        for other in (climbed, drawn):
            best = merge(best, other, other.found & (other.harm > best.harm))
        return replace(best, notes=_notes(sampled, gradient))

    def _draw(self, judge: Judge, epsilon: float, norm: PixelNorm, best: Best) -> Best:
        """The best of the draws alone."""
        images, drawn = judge.problem.images, judge.start()
        for number in range(self.samples):
            keys = rng.fold(judge.problem.keys, _DRAW_STREAM + number)
            noise = sample_ball(keys, tuple(images.shape[1:]), epsilon, norm).to(images.dtype)
            drawn = judge.better(drawn, project(images + noise, images, epsilon, norm))
        return drawn

    def _climb(self, problem: Problem, epsilon: float, norm: PixelNorm, best: Best) -> Best:
        """The maximum of the ascent: from its own best of the smaller budget, or from the clean image if a draw was better."""
        own = best.notes["gradient"] >= best.notes["sampled"]
        return super().search(problem, epsilon, norm, merge(super().start(problem), best, own))


def _notes(sampled: Tensor, gradient: Tensor) -> dict[str, Tensor]:
    return {"sampled": sampled, "gradient": gradient, "quotient": sampled / gradient}
