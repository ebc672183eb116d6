"""The few-pixel attack: gradient steps projected onto the l0 ball, then random swaps of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from runner.attacks.engine import ProjectedGradient
from runner.attacks.gradient import GradientAttack
from runner.attacks.judge import Judge
from runner.core import rng
from runner.core.attack_types import Best, Problem
from runner.core.errors import require, require_at_least
from runner.core.norms import project
from runner.core.types import Budget, PixelNorm

_SWAP_STREAM = 3_000_017
_STEP = 5.0


@dataclass(frozen=True)
class SparseAscent(ProjectedGradient):
    """PGD_0 of Croce and Hein (2019): steps of an absolute size, each followed by the projection onto the l0 ball."""

    def length(self, epsilon: float, step: int) -> float:
        """How far the entry with the largest gradient moves, in units of [0, 1] images."""
        return self.step_size or _STEP


@dataclass(frozen=True)
class SparseAttack(GradientAttack):
    """Raise `objective` by changing at most epsilon pixels, to any values in the box.

    First PGD_0 (Croce and Hein 2019; on explanations: ahmadajal/sparse_expl_attacks, ICDM 2023). `step_size` is how far the
    entry with the largest gradient moves, in units of [0, 1] images; null means 5. Above 1, each step chooses new pixels by the
    size of their gradient over all channels and moves them to corners of the box. Gradients say little about such long steps, so
    `swaps` candidates follow, judged on the true model as in Sparse-RS (Croce et al. 2022): a share of the changed pixels
    (`swap_share` at first, falling to a single pixel) is restored, and as many others move to random corners.
    """

    swaps: int = 100
    swap_share: float = 0.2
    norms: ClassVar[tuple[Budget, ...]] = ("l0",)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.update == "normalised", "attack.update", self.update, "normalised for a few-pixel attack")
        require(self.keep == "best", "attack.keep", self.keep, "best for a few-pixel attack")
        require_at_least("attack.swaps", self.swaps, 0)
        require(0 < self.swap_share <= 1, "attack.swap_share", self.swap_share, "above 0 and at most 1")

    def search(self, problem: Problem, epsilon: float, norm: PixelNorm, best: Best) -> Best:
        """The most harmful images with at most `epsilon` changed pixels, from the search and `best`."""
        best = super().search(problem, epsilon, norm, best)
        judge = self._judge(problem)
        for number in range(self.swaps):
            best = self._swap(judge, epsilon, best, number)
        return best

    def _engine(self, random_start: bool) -> ProjectedGradient:
        return SparseAscent(self.steps, self.step_size, random_start)

    def _swap(self, judge: Judge, epsilon: float, best: Best, number: int) -> Best:
        """The better of `best` and a candidate with some pixels restored and as many others at corners of the box."""
        clean = judge.problem.images
        keys = rng.fold(judge.problem.keys, _SWAP_STREAM + number)
        count = max(1, round(epsilon * self.swap_share * (1 - number / self.swaps)))
        order = rng.uniform(keys, clean.shape[-2:])
        changed = (best.images != clean).any(dim=1)
        back, others = (_first(order, among, count) for among in (changed, ~changed))
        corners = rng.uniform(rng.fold(keys, 0), clean.shape[1:]).round().to(clean.dtype)
        corners = torch.where(corners == clean, 1 - corners, corners)
        candidate = torch.where(others, corners, torch.where(back, clean, best.images))
        return judge.better(best, project(candidate, clean, epsilon, "l0"))


def _first(order: Tensor, among: Tensor, count: int) -> Tensor:
    """(N, 1, H, W) bool: up to `count` pixels of the mask (N, H, W), those with the smallest `order` (N, H, W)."""
    flat = torch.where(among, order, 2.0).flatten(1)
    chosen = flat.topk(min(count, flat.shape[1]), dim=1, largest=False).indices
    mask = torch.zeros_like(flat, dtype=torch.bool).scatter_(1, chosen, True).reshape(among.shape)
    return (mask & among).unsqueeze(1)
