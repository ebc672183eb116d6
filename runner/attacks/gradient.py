"""Gradient attacks on an attribution: second-order gradients through a softplus twin, judged on the true model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from runner.attacks.engine import ProjectedGradient, ascent_direction, values_and_direction
from runner.attacks.halving import HalvingAscent
from runner.attacks.judge import Judge, merge, reference_keys
from runner.attacks.objectives import Bound, Objective, Original, reads_probabilities
from runner.core import rng
from runner.core.attack_types import Best, Climb, Problem
from runner.core.errors import require, require_at_least, require_positive
from runner.core.shared_pass import map_and_logits
from runner.core.types import Budget, PixelNorm

_DRAW_STREAM = 2_000_003
"""Stream of the second and later draws of a step; the first draw is the same as without averaging."""


@dataclass(frozen=True)
class GradientAttack:
    """Raise `objective` by projected gradient ascent and keep the iterate that `measure` calls most harmful.

    Budgets are searched from the smallest to the largest. Each search starts at the best image of the smaller budget, which lies
    in the larger ball too, and never returns a less harmful one; further restarts start at random points.

    `measure`: a metric's name, or `objective` for the objective's own value on the true model. `keep`: `best` iterate by
    that measure, or the `last` that preserves the label (the released notebooks of Wang et al. 2020).
    `update: halving` adapts the step length (`HalvingAscent`).
    `beta`, `beta_end`: softplus strength of the twin, fixed or growing geometrically over the steps (Dombrowski et al.
    2019: 10 to 100); `beta: null` attacks the model itself, which needs a model with a second derivative.
    `draws`: for stochastic attributions, `fresh` noise at each step (expectation over the noise) or `common` noise.
    `eot`: draws of that noise whose gradients are averaged at each step (expectation over transformation, Athalye et al.
    2018); they are computed one after the other, so they cost time but no memory.
    """

    objective: Objective
    measure: str
    steps: int = 50
    step_size: float | None = None
    restarts: int = 1
    random_start: bool = False
    update: Literal["normalised", "adam", "halving"] = "normalised"
    keep: Literal["best", "last"] = "best"
    draws: Literal["fresh", "common"] = "fresh"
    beta: float | None = 10.0
    beta_end: float | None = None
    eot: int = 1
    order: ClassVar[int] = 2

    def __post_init__(self) -> None:
        self._engine(self.random_start)
        require_at_least("attack.restarts", self.restarts, 1)
        require_at_least("attack.eot", self.eot, 1)
        require_positive("attack.beta", self.beta, "above 0, or null")
        require_positive("attack.beta_end", self.beta_end, "above 0, or null")
        require(
            self.beta_end is None or self.beta is not None, "attack.beta_end", self.beta_end, "null when attack.beta is"
        )
        moving = self.beta_end is not None and self.update == "halving"
        require(not moving, "attack.beta_end", self.beta_end, "null with attack.update=halving, which compares steps")

    def start(self, problem: Problem) -> Best:
        """The clean images with their harm."""
        return self._judge(problem).start()

    def search(self, problem: Problem, epsilon: float, norm: PixelNorm, best: Best) -> Best:
        """The most harmful images inside the ball, from all restarts and `best`."""
        judge, raise_this = self._judge(problem), self._ascent(problem)
        for restart in range(self.restarts):
            engine = self._engine(self.random_start or restart > 0 or problem.again)
            found = _Kept(
                judge, best if self.keep == "best" else replace(best, found=torch.zeros_like(best.found)), self.keep
            )
            keys = rng.fold(problem.keys, restart)
            objective = partial(raise_this, keys=keys)
            engine(objective, problem.images, epsilon, norm, keys, best.images, found)
            best = merge(best, found.best, found.best.found & (found.best.harm > best.harm))
        return best

    def betas(self) -> list[float | None]:
        """Softplus beta of the twin at each step; None if the model itself is used."""
        if self.beta is None:
            return [None] * self.steps
        growth = (self.beta_end or self.beta) / self.beta
        return [self.beta * growth ** (step / max(self.steps - 1, 1)) for step in range(self.steps)]

    def direction(self, problem: Problem, images: Tensor) -> Tensor:
        """(N, C, H, W): the gradient of a first step from these images; zero if it does not exist."""
        return ascent_direction(partial(self._ascent(problem), keys=problem.keys), images, 0)

    def climbs(self, problem: Problem, epsilon: float, norm: Budget) -> Sequence[Climb]:
        """The ascent of the first step."""

        def observed(points: Tensor) -> Tensor:
            return problem.explain(problem.model, points, problem.targets, problem.keys).detach()

        objective = partial(self._ascent(problem), step=0, keys=problem.keys)
        return [Climb(objective, observed, problem.images, epsilon, norm)]

    def _engine(self, random_start: bool) -> ProjectedGradient:
        if self.update == "halving":
            return HalvingAscent(self.steps, self.step_size, random_start)
        return ProjectedGradient(self.steps, self.step_size, random_start, self.update)

    def _judge(self, problem: Problem) -> Judge:
        if self.measure == "objective":
            return Judge(problem, self._bind(problem, problem.model, reference_keys(problem)))
        return Judge.by_measure(problem)

    def _bind(self, problem: Problem, network: nn.Module, keys: Tensor) -> Bound:
        """The objective, with the clean maps of the network under the draws of these keys as its reference."""
        maps, logits = map_and_logits(problem.explain, network, problem.images, problem.targets, keys)
        probabilities = logits().softmax(dim=1)

        def partner_maps() -> Tensor:
            with torch.no_grad():
                classes = network(problem.partners).argmax(dim=1)
            return problem.explain(network, problem.partners, classes, problem.keys).detach()

        return self.objective.bind(Original(maps.detach(), probabilities, partner_maps))

    def _ascent(self, problem: Problem) -> Callable[..., Tensor]:
        """(images, step, keys) -> (N,): the objective on the twin of that step, under that step's noise."""
        networks = [problem.model if beta is None else problem.twin(beta) for beta in self.betas()]
        bound, reads = self._bind(problem, networks[0], problem.keys), reads_probabilities(self.objective)

        def value(images: Tensor, step: int, keys: Tensor, draw: int = 0) -> Tensor:
            noise = keys if self.draws == "common" else rng.fold(keys, step + 1)
            noise = rng.fold(noise, _DRAW_STREAM + draw) if draw else noise
            maps, logits = map_and_logits(problem.explain, networks[step], images, problem.targets, noise)
            return bound(maps, logits().softmax(dim=1) if reads else images.new_empty(len(images), 0))

        return value if self.eot == 1 else partial(_expectation, value, self.eot)


def _expectation(value: Callable[..., Tensor], draws: int, images: Tensor, step: int, keys: Tensor) -> Tensor:
    """(N,) means over `draws` draws and their gradients; the graph of each draw is freed before the next."""
    total, gradient = images.detach().new_zeros(len(images)), torch.zeros_like(images, requires_grad=False)
    for draw in range(draws):
        values, direction = values_and_direction(partial(value, keys=keys, draw=draw), images, step)
        total, gradient = total + values, gradient + direction
    slope = (gradient / draws * images).flatten(1).sum(dim=1)
    return total / draws + slope - slope.detach()


class _Kept:
    """Keeps the best (or last) iterate of one ascent."""

    def __init__(self, judge: Judge, best: Best, keep: str) -> None:
        self.best, self._update = best, judge.better if keep == "best" else judge.latest

    def __call__(self, images: Tensor) -> None:
        self.best = self._update(self.best, images)
