"""NES: gradient ascent with gradients estimated from queries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from runner.attacks.judge import Judge, merge, require_metric
from runner.attacks.query import begin, budget_keys, charge
from runner.core import rng
from runner.core.attack_types import Best, Problem
from runner.core.errors import require, require_at_least, require_positive
from runner.core.norms import normalise, project, sample_ball
from runner.core.types import Norm


@dataclass(frozen=True)
class NaturalEvolution:
    """Projected ascent on the harm, with its gradient estimated from antithetic Gaussian directions.

    Ilyas et al. (2018, "Black-box adversarial attacks with limited queries and information"):
    g = sum_i (harm(x + sigma u_i) - harm(x - sigma u_i)) u_i / (2 sigma n), u_i ~ N(0, I), for n `pairs`; then a step along
    sign(m) (linf) or m / ||m|| (l2), m the running mean of g / ||g|| with `momentum`, and a projection. A step costs 2 n + 1
    queries, the last one for its result; `queries` per example and budget limit the number of steps. Queried images lie in
    the box.

    The ascent starts at the best image so far, or else at a random point: at the clean image harm has its minimum, where opposite
    directions cancel. A result that changes the label is dropped, and the ascent starts again.
    `draws`: for stochastic attributions, `fresh` noise in every step's estimate or `common` noise.
    """

    measure: str
    queries: int = 500
    pairs: int = 10
    sigma: float = 0.03
    momentum: float = 0.9
    step_size: float | None = None
    draws: Literal["fresh", "common"] = "fresh"
    order: ClassVar[int] = 0

    def __post_init__(self) -> None:
        require_metric(self.measure)
        require_at_least("attack.pairs", self.pairs, 1)
        least = 2 * self.pairs + 1
        require(self.queries >= least, "attack.queries", self.queries, f"at least the {least} of one step")
        require_positive("attack.sigma", self.sigma)
        require(0 <= self.momentum < 1, "attack.momentum", self.momentum, "at least 0 and below 1")
        require_positive("attack.step_size", self.step_size, "above 0, or null")

    @property
    def steps(self) -> int:
        """Number of steps within the queries of one budget."""
        return self.queries // (2 * self.pairs + 1)

    def start(self, problem: Problem) -> Best:
        """The clean images with their harm."""
        return begin(Judge.by_measure(problem))

    def search(self, problem: Problem, epsilon: float, norm: Norm, best: Best) -> Best:
        """The best of the steps and of the smaller budgets."""
        judge, keys = Judge.by_measure(problem), budget_keys(problem, epsilon)
        size = epsilon * (self.step_size or 2.5 / self.steps)
        images = _begin(problem, best, rng.fold(keys, self.steps), epsilon, norm)
        gradient = torch.zeros_like(images)
        for step in range(self.steps):
            drawn = rng.fold(keys, step)
            estimate = normalise(self._estimate(judge, images, drawn), "l2")
            gradient = self.momentum * gradient + (1.0 - self.momentum) * estimate
            images = project(images + size * normalise(gradient, norm), problem.images, epsilon, norm)
            harm, kept = judge.candidate(images)
            best = merge(best, Best(images, harm, kept), kept & (harm > best.harm))
            again = _begin(problem, best, rng.fold(drawn, self.pairs), epsilon, norm)
            images = torch.where(kept.reshape(-1, 1, 1, 1), images, again)
        return charge(best, self.steps * (2 * self.pairs + 1))

    def _estimate(self, judge: Judge, images: Tensor, keys: Tensor) -> Tensor:
        """(N, C, H, W) multiple of the estimated gradient; a random direction if all queries give the same harm."""
        ask = judge if self.draws == "common" else replace(judge, problem=replace(judge.problem, keys=keys))
        shape, total = tuple(images.shape[1:]), torch.zeros_like(images)
        direction = total
        for pair in range(self.pairs):
            direction = rng.normal(rng.fold(keys, pair), shape).to(images.dtype)
            forward, _ = ask.look((images + self.sigma * direction).clamp(0.0, 1.0))
            backward, _ = ask.look((images - self.sigma * direction).clamp(0.0, 1.0))
            total = (
                total
                + torch.nan_to_num(forward - backward, posinf=0.0, neginf=0.0).to(images.dtype).reshape(-1, 1, 1, 1)
                * direction
            )
        flat = total.flatten(1).abs().amax(dim=1).reshape(-1, 1, 1, 1) == 0
        return torch.where(flat, direction, total)


def _begin(problem: Problem, best: Best, keys: Tensor, epsilon: float, norm: Norm) -> Tensor:
    """The best images, or random points of the ball for examples without one."""
    noise = sample_ball(keys, tuple(problem.images.shape[1:]), epsilon, norm).to(problem.images.dtype)
    drawn = project(problem.images + noise, problem.images, epsilon, norm)
    return torch.where(best.found.reshape(-1, 1, 1, 1), best.images, drawn)
