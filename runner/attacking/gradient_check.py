"""Refuses an attack whose gradient leads nowhere, before it walks, and flags what makes its numbers doubtful."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from runner.attacks.direction import STRONG, USABLE, Direction, best_direction, sample
from runner.core.attack_types import Attack, Climbing, Problem, Reviewing
from runner.core.flags import Flag
from runner.core.types import Budget

SHARE = 0.05
"""Share of examples with a constant map, or without a gradient, from which a flag is raised."""
FEWEST = 4
"""With fewer examples chance may decide: the flag is raised, and the attack goes on."""

_WAYS_OUT = (
    "the network must call its activations as modules or functions of torch, and the attribution must keep its graph "
    "(create_graph=True); or take an attack without gradients (query_square, query_nes, random_sign)"
)


class NoGradientError(RuntimeError):
    """The gradient that an attack follows says nothing about the map."""


def gradient_flags(attack: Attack | Any, problem: Problem, epsilon: float, norm: Budget) -> dict[str, Flag]:
    """The flags about an attack's gradient, measured on the first examples at a budget; none for an attack without one.

    Errors: `NoGradientError` for an attack that could only walk at random. One that has members without gradients is flagged.
    """
    if not isinstance(attack, Climbing) or epsilon == 0:
        return {}
    few = sample(problem)
    found = best_direction(attack.climbs(few, epsilon, norm), few.keys)
    says = _why(found)
    if not found.usable and len(few.images) >= FEWEST and not isinstance(attack, Reviewing):
        raise NoGradientError(f"{says}: {_WAYS_OUT}")
    changing = ~found.constant
    without, constant = _share((found.zero | found.broken)[changing]), _share(found.constant)
    weak = (
        "the gradient that the attack follows leads little further than random directions: a stronger attack may exist"
    )
    partly = "examples without a gradient, though what is attacked changes there: the attack walks at random"
    still = "maps that do not change near the image (a linear network, a saturated probability): they only look robust"
    return {
        "no_usable_gradient": Flag(says, found.beats, USABLE, tripped=not found.usable),
        "weak_gradient": Flag(
            weak, found.beats, STRONG, tripped=found.usable and bool(changing.any()) and found.beats <= STRONG
        ),
        "partly_no_gradient": Flag(partly, without, SHARE, tripped=found.usable and without > SHARE),
        "constant_map": Flag(still, constant, SHARE, tripped=constant > SHARE),
    }


def _why(found: Direction) -> str:
    changing = ~found.constant
    if changing.any() and bool(found.broken[changing].all()):
        return "the gradient that the attack follows is not finite"
    if changing.any() and bool((found.zero | found.broken)[changing].all()):
        return "the gradient that the attack follows is zero, though the map changes"
    return "the gradient that the attack follows leads no further than random directions of equal length"


def _share(examples: Tensor) -> float:
    return float(examples.double().mean()) if len(examples) else 0.0
