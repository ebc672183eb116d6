"""Random baselines, which every attack must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from runner.attacks.judge import Judge, require_metric
from runner.core import rng
from runner.core.attack_types import Best, Problem
from runner.core.errors import require, require_at_least
from runner.core.norms import project, sample_ball, sample_corner
from runner.core.types import Budget, PixelNorm


@dataclass(frozen=True)
class RandomAttack:
    """The most harmful of `draws` random perturbations that keep the label.

    `sample: sign` draws random signs on the surface of the ball (Ghorbani et al. 2019: x + eps * sign(N(0, 1)), one draw in
    the paper); `ball` draws uniformly from inside it (the sampled SENS-MAX of Yeh et al. 2019 draws so, with linf).
    """

    measure: str
    sample: Literal["sign", "ball"] = "sign"
    draws: int = 1
    order: ClassVar[int] = 0
    norms: ClassVar[tuple[Budget, ...]] = ("l2", "linf", "l0")

    def __post_init__(self) -> None:
        require_at_least("attack.draws", self.draws, 1)
        require_metric(self.measure)

    def start(self, problem: Problem) -> Best:
        """The clean images with their harm."""
        return Judge.by_measure(problem).start()

    def search(self, problem: Problem, epsilon: float, norm: PixelNorm, best: Best) -> Best:
        """The best of the draws and of the smaller budgets."""
        require(epsilon != float("inf"), "epsilon.values", "inf", "finite for a random attack")
        judge, draw = Judge.by_measure(problem), sample_corner if self.sample == "sign" else sample_ball
        for number in range(self.draws):
            keys = rng.fold(problem.keys, number)
            noise = draw(keys, tuple(problem.images.shape[1:]), epsilon, norm).to(problem.images.dtype)
            best = judge.better(best, project(problem.images + noise, problem.images, epsilon, norm))
        return best
