"""Decides which iterate is kept, on the true model and never on the twin that gives the gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from runner.core import rng
from runner.core.attack_types import Best, Problem
from runner.core.errors import require
from runner.core.shared_pass import map_and_logits

Score = Callable[[Tensor, Tensor], Tensor]
"""(maps (N, H, W), probabilities (N, K)) of the true model -> harm (N,), larger is worse for the attribution."""

_JUDGE_STREAM = 1_000_003
"""Stream of the judge's noise: the same draws for every iterate and budget, so that its curve is monotone."""


@dataclass(frozen=True)
class Judge:
    """Scores candidates on the true model and keeps the most harmful one that preserves the predicted label."""

    problem: Problem
    score: Score

    @classmethod
    def by_measure(cls, problem: Problem) -> Judge:
        """A judge by the metric `attack.measure`, relative to the maps of the clean images."""
        reference = reference_maps(problem)
        return cls(problem, lambda maps, probabilities: problem.harm(reference, maps))

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Harm (N,), nan where logits or map are not finite; whether the candidate may be kept (N,): finite, label preserved."""
        problem, keys = self.problem, reference_keys(self.problem)
        found, seen = map_and_logits(problem.explain, problem.model, images, problem.targets, keys)
        maps, logits = found.detach(), seen()
        sound = logits.isfinite().all(dim=1)
        kept = sound & (logits.argmax(dim=1) == problem.targets)
        if problem.watch is not None:
            problem.watch(kept)
        sound &= maps.flatten(1).isfinite().all(dim=1)
        harm = self.score(maps, logits.softmax(dim=1)).masked_fill(~sound, torch.nan)
        return harm, kept & harm.isfinite()

    def start(self) -> Best:
        """The clean images, with nothing found yet."""
        harm, _ = self.look(self.problem.images)
        return Best(self.problem.images, harm, torch.zeros_like(harm, dtype=torch.bool))

    def better(self, best: Best, images: Tensor) -> Best:
        """`best`, replaced by the candidate for each example where that is more harmful and keeps the label."""
        harm, kept = self.candidate(images)
        return merge(best, Best(images, harm, kept), kept & (harm > best.harm))

    def latest(self, best: Best, images: Tensor) -> Best:
        """`best`, replaced by the candidate for each example where that keeps the label, more harmful or not."""
        harm, kept = self.candidate(images)
        return merge(best, Best(images, harm, kept), kept)

    def candidate(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What `look` sees, of images that may be kept: the search's trace sees them too."""
        harm, kept = self.look(images)
        if self.problem.trace is not None:
            self.problem.trace.see(kept, harm)
        return harm, kept


def require_metric(measure: str) -> None:
    """Reject `measure: objective` for an attack without an objective."""
    require(measure != "objective", "attack.measure", measure, "the name of a metric")


def reference_maps(problem: Problem) -> Tensor:
    """Maps (N, H, W) of the clean images under the judge's draws: what candidates are compared with."""
    return problem.explain(problem.model, problem.images, problem.targets, reference_keys(problem)).detach()


def reference_keys(problem: Problem) -> Tensor:
    """(N,) keys of the judge's draws."""
    return rng.fold(problem.keys, _JUDGE_STREAM)


def merge(best: Best, other: Best, take: Tensor) -> Best:
    """Example by example, `other` where `take` (N,) says so, else `best`. Harm that is not finite is never taken."""
    take = take & other.harm.isfinite()
    pick = take.reshape(-1, *([1] * (best.images.dim() - 1)))
    return Best(
        images=torch.where(pick, other.images, best.images),
        harm=torch.where(take, other.harm, best.harm),
        found=best.found | take,
        notes=best.notes,
    )
