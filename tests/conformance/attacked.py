"""One attack on five examples, searched as a job does, and what was seen of the network meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import pytest
import torch
from found import Plugin, plugins
from torch import Tensor, nn
from world import explainer, images_of, keys_of, network, predicted, shown_to, with_references

from runner.core import rng
from runner.core.attack_types import Attack, Best, Problem, budgets
from runner.models.twin import softplus_twin
from runner.runs.parts import Parts

GRIDS = {"l2": (0.3, 0.9), "linf": (0.03, 0.1), "l0": (1.0, 5.0), "spatial": (0.3, 1.0)}
"""Two budgets of every norm."""


@dataclass(frozen=True)
class Run:
    """A search up the grid: what was found at each budget, every batch the model was shown, and whether keys were drawn from."""

    problem: Problem
    epsilons: tuple[float, ...]
    steps: list[Best]
    shown: list[Tensor]
    drawn: bool


def runs(plugin: Plugin) -> list[tuple[Any, Run]]:
    """(norm, search) for every norm that the attack knows, in float32."""
    return [(norm, run(plugin, norm)) for norm in budgets(plugin.build())]


@cache
def run(plugin: Plugin, norm: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Run:
    problem, epsilons = problem_of(plugin, network(dtype), norm, seed), grid(plugin, norm)
    drawn: list[bool] = []
    real = rng.bits
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rng, "bits", lambda *args, **options: drawn.append(True) or real(*args, **options))
        with shown_to(problem.model) as shown:
            steps = climb(plugin.build(), problem, norm, epsilons)
    return Run(problem, epsilons, steps, shown, bool(drawn))


def grid(plugin: Plugin, norm: str) -> tuple[float, ...]:
    """No budget, two, and an infinite one for an attack whose command asks for that."""
    unbounded = float("inf") in Parts(plugin.cheap, {}).grid.epsilons()
    return (0.0, *GRIDS[norm], *([float("inf")] if unbounded else []))


def climb(attack: Attack, problem: Problem, norm: Any, epsilons: tuple[float, ...]) -> list[Best]:
    """What a job does: the clean images first, then each ball from the best of the smaller one."""
    steps = [attack.start(problem)]
    for epsilon in epsilons[1:]:
        steps.append(attack.search(problem, epsilon, norm, steps[-1]))
    return steps


def problem_of(plugin: Plugin, model: nn.Module, norm: str, seed: int = 0) -> Problem:
    """Five examples, explained and judged as the YAML's command says."""
    dtype, parts, measure = next(model.parameters()).dtype, Parts(plugin.cheap, {}), plugin.build().measure
    images = images_of(dtype)
    problem = Problem(
        model=model,
        twin=lru_cache(lambda beta: softplus_twin(model, beta).eval()),
        explain=explainer(with_references(parts.attribution, dtype), plugin.cheap["metrics"]["reduction"]),
        harm=_no_metric if measure == "objective" else parts.harm(measure),
        images=images,
        targets=predicted(model, images),
        partners=images_of(dtype, seed=2),
        keys=keys_of(seed),
    )
    if not takes_source(plugin):
        return problem
    return replace(problem, stored=source(plugin, replace(problem, keys=keys_of()), norm))


def takes_source(plugin: Plugin) -> bool:
    return bool(getattr(plugin.build(), "takes_source", False))


def source(plugin: Plugin, problem: Problem, norm: str) -> Callable[[float], Tensor]:
    """Images that the first white-box attack for this norm finds: what a transfer attack is given."""
    givers = (other for other in plugins("attack") if not takes_source(other) and other.build().order >= 2)
    giver = next(other for other in givers if norm in budgets(other.build()))
    epsilons = grid(plugin, norm)
    found = climb(giver.build(measure="objective"), problem, norm, epsilons)
    return dict(zip(epsilons, [best.images for best in found], strict=True)).__getitem__


def take(problem: Problem, rows: Tensor) -> Problem:
    """The same problem for some of its examples."""
    chosen = {name: getattr(problem, name)[rows] for name in ("images", "targets", "partners", "keys")}
    stored = problem.stored
    return replace(problem, **chosen, stored=None if stored is None else lambda epsilon: stored(epsilon)[rows])


def _no_metric(reference: Tensor, maps: Tensor) -> Tensor:
    raise AssertionError("measure=objective: no metric decides")
