"""Shared by black-box attacks, which only query maps and predictions of the network: counting queries, and random keys."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from runner.attacks.judge import Judge
from runner.core import rng
from runner.core.attack_types import Best, Problem
from runner.core.errors import require

QUERIES = "queries"
"""Note for the column `attack_queries`: evaluations of (model, map) per example so far, smaller budgets included."""


def begin(judge: Judge) -> Best:
    """The clean images; their map is the first query."""
    best = judge.start()
    return replace(best, notes={QUERIES: torch.ones_like(best.found, dtype=torch.int64)})


def charge(best: Best, queries: int) -> Best:
    """`best`, with so many more queries per example."""
    return replace(best, notes={**best.notes, QUERIES: best.notes[QUERIES] + queries})


def budget_keys(problem: Problem, epsilon: float) -> Tensor:
    """Random keys of one budget. Errors: `ConfigError` for an infinite budget."""
    require(epsilon != float("inf"), "epsilon.values", "inf", "finite for a black-box attack")
    return rng.fold(problem.keys, round(epsilon * 1e9))
