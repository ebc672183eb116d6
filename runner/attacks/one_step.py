"""One step, without gradients or a search: the most important pixels of another image are injected into this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from runner.attacks.judge import Judge, require_metric
from runner.attacks.query import begin, charge
from runner.core.attack_types import Best, Problem
from runner.core.errors import require
from runner.core.norms import project
from runner.core.types import PixelNorm


@dataclass(frozen=True)
class OneStep:
    """After eXIAA (Pesce, Wei and Mengaldo 2025, arXiv 2511.10088): "explainable injections".

    From the paper: the attacker sees only predictions and explanations, takes a single step, injects content chosen by
    explanations, and preserves the predicted class. Only its abstract was available, so the step itself is ours: the most
    important `share` of the partner image's pixels (by its explanation) is copied from the partner to the same places, and the
    change is projected into the ball. One query for the partner's map, and one per budget for the result.
    """

    measure: str
    share: float = 0.2
    order: ClassVar[int] = 0
    norms: ClassVar[tuple[PixelNorm, ...]] = ("l2", "linf", "l0")

    def __post_init__(self) -> None:
        require_metric(self.measure)
        require(0 < self.share <= 1, "attack.share", self.share, "above 0 and at most 1")

    def start(self, problem: Problem) -> Best:
        """The clean images with their harm."""
        return charge(begin(Judge.by_measure(problem)), 1)

    def search(self, problem: Problem, epsilon: float, norm: PixelNorm, best: Best) -> Best:
        """The better of `best` and the injection projected to this budget (unchanged if the budget is infinite)."""
        injected = problem.images + self.injection(problem)
        candidate = project(injected, problem.images, epsilon, norm)
        return charge(Judge.by_measure(problem).better(best, candidate), 1)

    def injection(self, problem: Problem) -> Tensor:
        """(N, C, H, W) changes that copy the partner's most important pixels."""
        with torch.no_grad():
            classes = problem.model(problem.partners).argmax(dim=1)
        maps = problem.explain(problem.model, problem.partners, classes, problem.keys).detach().flatten(1)
        count = max(round(self.share * maps.shape[1]), 1)
        chosen = torch.zeros_like(maps, dtype=torch.bool).scatter_(1, maps.topk(count, dim=1).indices, True)
        pixels = chosen.reshape(-1, 1, *problem.images.shape[2:])
        return torch.where(pixels, problem.partners - problem.images, torch.zeros_like(problem.images))
