"""How near a search is to its end, and going on until it is near.

A search that still gains when it stops has not found the worst image: the model looks more robust than it is. So the harm is
recorded after 1/8, 1/4, 1/2 and all of the candidates of each budget. The gain of the last doubling is the mean difference of the
last two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from runner.core.flags import Flag
from runner.core.trace import SHARES, Trace
from runner.core.types import ContextualMetric, Metric

BOUND = 0.02
"""Largest gain of the last doubling without a flag."""

SEARCHES, CANDIDATES = "searches", "candidates"
"""Names, among the measurements of a chunk, of how often a budget was searched, and of the candidates that it had; (N,) each."""
_NAMES = tuple(f"trace.{share}" for share in SHARES)


@dataclass(frozen=True)
class Until:
    """When a search may stop: `attack.converge` and `attack.converge_cap`."""

    gain: float | None = None
    """Largest gain to be expected of another doubling; None for a single search."""
    cap: int = 16
    """Largest number of searches of one budget."""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Until:
        """From the group `attack` of a config, where both keys may be absent."""
        return cls(settings.get("converge"), settings.get("converge_cap", cls.cap))


def recorded(trace: Trace) -> dict[str, Tensor]:
    """The harm (N,) float64 after each share of a search's candidates, and their number."""
    if not trace.candidates:
        return {}
    found = {name: trace.at(share).double() for name, share in zip(_NAMES, SHARES, strict=True)}
    ones = torch.ones(len(trace.start), dtype=torch.int64)
    return found | {SEARCHES: ones, CANDIDATES: ones * trace.candidates}


def doubled(before: Mapping[str, Tensor], harm: Tensor) -> dict[str, Tensor]:
    """The same after as many candidates again, which found `harm` (N,): what was the whole is now the half."""
    shifted = {new: before[old] for new, old in pairwise(_NAMES)}
    counts = {name: 2 * before[name] for name in (SEARCHES, CANDIDATES)}
    return shifted | {_NAMES[-1]: harm.double().cpu()} | counts


@dataclass(frozen=True)
class Convergence:
    """Mean harm at one budget after 1/8, 1/4, 1/2 and all of its candidates; larger is worse for the attribution."""

    harm: tuple[float, ...]
    clean: float
    """That of the clean images."""
    bounded: bool
    """Whether the measure is: then gains are in its units, else relative to the harm done."""
    searches: int
    candidates: int
    """Judged images per example."""

    @property
    def gain(self) -> float:
        """Of the last doubling of the candidates."""
        return self._relative(self.harm[3] - self.harm[2])

    @property
    def next_gain(self) -> float:
        """Of one more doubling, if gains go on falling as they did; never more than the last."""
        before = self._relative(self.harm[2] - self.harm[1])
        return self.gain * min(1.0, self.gain / before) if before > 0 else self.gain

    def _relative(self, gain: float) -> float:
        scale = 1.0 if self.bounded else self.harm[-1] - self.clean
        return gain / scale if gain > 0 and scale > 0 else 0.0


Steps = Sequence[Mapping[str, Tensor]]
"""The measurements of a chunk at each budget."""


def converged(chunks: Sequence[Steps], place: int, measure: Metric | ContextualMetric | None) -> Convergence | None:
    """The convergence of the budget at this place of the grid, over all examples; None without a search.

    `measure`: the metric that images are kept by, None for the attack's own objective.
    """
    steps = [chunk[place] for chunk in chunks]
    if any(_NAMES[-1] not in step for step in steps):  # no search, or a state that was saved before it was recorded
        return None
    traced = torch.stack([torch.cat([step[name] for step in steps]) for name in _NAMES])
    harm = traced[:, traced.isfinite().all(dim=0)].mean(dim=1)
    clean = torch.cat([chunk[0]["attack_harm"] for chunk in chunks]).nanmean()
    return Convergence(
        harm=tuple(harm.nan_to_num().tolist()),
        clean=float(clean.nan_to_num()),
        bounded=measure is not None and all(map(math.isfinite, measure.range)),
        searches=int(steps[0][SEARCHES][0]),
        candidates=int(steps[0][CANDIDATES][0]),
    )


def as_result(
    found: Mapping[float, Convergence], measure: Metric | ContextualMetric | None, gradients: int
) -> dict[str, Any]:
    """`convergence` of result.json, from that at each budget: the largest gain, what all budgets cost, and a table.

    `found` of a budget is stated in the measure's own units and sign. `gradients`: those of one candidate. `harm`: how much the
    measure was moved, on average over the budgets. Empty for an attack that searches nothing.
    """
    if not found:
        return {}
    sign = -1.0 if measure is not None and measure.direction == "higher" else 1.0
    candidates = sum(one.candidates for one in found.values())
    table = {
        f"{epsilon:g}": {
            "found": [sign * value for value in one.harm],
            **{"gain": one.gain, "next_gain": one.next_gain, "searches": one.searches, "candidates": one.candidates},
        }
        for epsilon, one in found.items()
    }
    whole = {
        "gain": max(one.gain for one in found.values()),
        "harm": sum(one.harm[-1] - one.clean for one in found.values()) / len(found),
        **{"candidates": candidates, "gradients": candidates * gradients},
    }
    return {"convergence": {**whole, "shares": list(SHARES), "budgets": table}}


def not_converged(found: Mapping[float, Convergence]) -> Flag:
    """The flag of a search that still gained when it stopped."""
    beyond = tuple(epsilon for epsilon, one in found.items() if one.gain > BOUND)
    says = "the attack still gained when it stopped, so that a longer one does more harm (attack.converge=0.01 goes on)"
    return Flag(says, max((one.gain for one in found.values()), default=0.0), BOUND, beyond, bool(beyond))
