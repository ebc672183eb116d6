"""Square search: random search with square-shaped changes, which only needs the harm of each candidate.

Andriushchenko et al. (2020, "Square Attack: a query-efficient black-box adversarial attack via random search"), with the
distance of the maps instead of the label's margin; the label must be kept instead of changed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from runner.attacks.judge import Judge, require_metric
from runner.attacks.query import begin, budget_keys, charge
from runner.core import rng
from runner.core.attack_types import Best, Problem
from runner.core.errors import require, require_at_least
from runner.core.norms import lengths, normalise, project
from runner.core.types import Norm

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Numbers of queries, out of 10,000, after which the squares cover half as many pixels; rescaled to `queries`.

The paper's schedule: large squares first, when most changes help, then smaller ones.
"""
_TILES = 5
"""Tiles along the shorter side in the first query of l2, so that the budget is spread over the whole image."""
_FLOOR = 1e-12


@dataclass(frozen=True)
class SquareSearch:
    """Change one random square at a time and keep the change if it does more harm and preserves the label.

    linf (Algorithm 2): the square's pixels move to +-epsilon, with one random sign per channel. l2 (Algorithm 3): the budget
    of a second random square is moved into the first, in the shape of two pyramids of opposite sign.
    The first query of a budget tries stripes (linf) or tiles (l2) that use the whole budget, as in the paper; the second, our
    addition, tries the best image of the smaller budgets scaled to this one.

    `queries`: per example and budget. `share`: share of the image's pixels in the first squares.
    """

    measure: str
    queries: int = 500
    share: float = 0.1
    order: ClassVar[int] = 0

    def __post_init__(self) -> None:
        require_metric(self.measure)
        require_at_least("attack.queries", self.queries, 1)
        require(0 < self.share <= 1, "attack.share", self.share, "above 0 and at most 1")

    def start(self, problem: Problem) -> Best:
        """The clean images with their harm."""
        return begin(Judge.by_measure(problem))

    def search(self, problem: Problem, epsilon: float, norm: Norm, best: Best) -> Best:
        """The best of all candidates and of the smaller budgets."""
        judge, keys, clean = Judge.by_measure(problem), budget_keys(problem, epsilon), problem.images
        for query in range(self.queries):
            deltas = self._candidate(best.images - clean, query, rng.fold(keys, query), epsilon, norm)
            best = judge.better(best, project(clean + deltas, clean, epsilon, norm))
        return charge(best, self.queries)

    def side(self, query: int, shape: torch.Size) -> int:
        """Side of the squares, in pixels, at a query of (N, C, H, W) images; at least 3 for l2, which needs a shape."""
        # 8x8 images have few sizes: rounding, and at least one pixel, make late squares alike
        passed = sum(query * 10_000 > after * self.queries for after in _HALVINGS)
        covered = self.share * 2.0**-passed * shape[2] * shape[3]
        return min(max(round(math.sqrt(covered)), 1), shape[2], shape[3])

    def _candidate(self, deltas: Tensor, query: int, keys: Tensor, epsilon: float, norm: Norm) -> Tensor:
        if query == 0:
            return stripes(deltas, keys, epsilon) if norm == "linf" else tiles(deltas, keys, epsilon)
        if query == 1:
            return deltas * (epsilon / lengths(deltas, norm).clamp_min(_FLOOR)).reshape(-1, 1, 1, 1)
        side = self.side(query, deltas.shape)
        if norm == "linf":
            return torch.where(window(deltas, keys, side), signs(deltas, keys) * epsilon, deltas)
        return moved_budget(deltas, keys, min(max(side, 3), *deltas.shape[2:]), epsilon)


def stripes(like: Tensor, keys: Tensor, epsilon: float) -> Tensor:
    """(N, C, H, W) vertical stripes one pixel wide, of +-epsilon at random in each channel."""
    _, channels, height, width = like.shape
    drawn = rng.normal(keys, (channels, 1, width)).sign().to(like.dtype)
    return (epsilon * drawn).expand(-1, -1, height, -1)


def tiles(like: Tensor, keys: Tensor, epsilon: float) -> Tensor:
    """(N, C, H, W) of l2 norm epsilon: about 5 x 5 tiles of two pyramids each, with a random sign in each channel."""
    _, channels, height, width = like.shape
    side = max(min(height, width) // _TILES, 1)
    counts = (math.ceil(height / side), math.ceil(width / side))
    drawn = rng.normal(keys, (channels, *counts)).sign().to(like)
    drawn = drawn.repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)
    pattern = pyramids(side).to(like).repeat(counts)
    deltas = (drawn * pattern)[:, :, :height, :width]
    return deltas * (epsilon / lengths(deltas, "l2").clamp_min(_FLOOR)).reshape(-1, 1, 1, 1)


def moved_budget(deltas: Tensor, keys: Tensor, side: int, epsilon: float) -> Tensor:
    """Algorithm 3 for (N, C, H, W): the norm of two squares, and the unused part of epsilon, go into the first square."""
    # what leaves the second square and what was never spent go into the first, so that the norm of the whole is epsilon;
    # its direction is that of the change there so far plus a fresh pattern
    first = window(deltas, keys, side)
    second = window(deltas, rng.fold(keys, 1), side)
    inside = _norms(deltas * (first | second))
    unused = (epsilon**2 - lengths(deltas, "l2").square()).clamp_min(0.0).reshape(-1, 1, 1, 1) / deltas.shape[1]
    shape = signs(deltas, keys) * placed(first, keys, side).to(deltas.dtype)
    shape = shape + deltas * first / _norms(deltas * first).clamp_min(_FLOOR)
    fresh = shape / _norms(shape).clamp_min(_FLOOR) * (inside.square() + unused).sqrt()
    return torch.where(first, fresh, torch.where(second, torch.zeros_like(deltas), deltas))


def window(like: Tensor, keys: Tensor, side: int) -> Tensor:
    """(N, 1, H, W) bool: a square at a random place inside each image."""
    height, width = like.shape[2:]
    drawn = rng.uniform(rng.fold(keys, 2), (2,))
    top, left = (drawn[:, 0] * (height - side + 1)).long(), (drawn[:, 1] * (width - side + 1)).long()
    rows = torch.arange(height, device=like.device) - top[:, None]
    columns = torch.arange(width, device=like.device) - left[:, None]
    within = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    return within.unsqueeze(1)


def placed(squares: Tensor, keys: Tensor, side: int) -> Tensor:
    """(N, 1, H, W): the pyramids in each image's square, half of them turned by 90 degrees, zero elsewhere."""
    pattern = pyramids(side).to(squares.device)
    turned = rng.uniform(rng.fold(keys, 3), (1, 1)) < 0.5
    chosen = torch.where(turned.unsqueeze(-1), pattern.T, pattern).reshape(len(keys), 1, -1).to(pattern.dtype)
    flat = squares.flatten(1)
    values = torch.zeros(flat.shape, dtype=pattern.dtype, device=squares.device)
    values[flat] = chosen.reshape(-1)
    return values.reshape(squares.shape)


def signs(like: Tensor, keys: Tensor) -> Tensor:
    """(N, C, 1, 1) random signs."""
    return rng.normal(rng.fold(keys, 4), (like.shape[1], 1, 1)).sign().to(like.dtype)


@lru_cache(maxsize=64)
def pyramids(side: int) -> Tensor:
    """(side, side) of norm 1: two halves of opposite sign, each falling off from its centre (equation 2 of the paper).

    At Chebyshev distance d from its centre a half of h1 x h2 pixels is sum_{j = d+1}^{n+1} 1 / j^2, n = floor(max(h1, h2) / 2).
    """
    halves = [_pyramid(rows, side) * sign for rows, sign in ((side // 2, 1.0), (side - side // 2, -1.0)) if rows]
    whole = torch.cat(halves)
    return normalise(whole.unsqueeze(0), "l2")[0]


def _pyramid(rows: int, columns: int) -> Tensor:
    largest = max(rows, columns) // 2
    tails = torch.tensor([sum(1 / j**2 for j in range(d + 1, largest + 2)) for d in range(largest + 1)])
    down = (torch.arange(rows) - rows // 2).abs()
    across = (torch.arange(columns) - columns // 2).abs()
    return normalise(tails[torch.maximum(down[:, None], across[None, :])].unsqueeze(0), "l2")[0]


def _norms(deltas: Tensor) -> Tensor:
    """(N, C, 1, 1) l2 norms of each channel."""
    return lengths(deltas.flatten(0, 1), "l2").reshape(*deltas.shape[:2], 1, 1)
