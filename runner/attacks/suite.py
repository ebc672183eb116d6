"""The worst case per example over several strong attacks, as AutoAttack does for labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from runner.attacks import flags, signs
from runner.attacks.gradient import GradientAttack
from runner.attacks.judge import Judge, merge, require_metric
from runner.attacks.other_map import OtherMapAttack
from runner.attacks.random import RandomAttack
from runner.core.attack_types import Attack, Best, Climb, Problem
from runner.core.errors import require, require_at_least
from runner.core.types import Budget, Norm

ROLES = ("gradient", "transfer", "query", "random")
"""Kinds of member: gradients of the map itself, images found on another map, queries, random draws."""


@dataclass(frozen=True)
class Suite:
    """Every member searches from the clean image at each budget; the most harmful image, also over smaller budgets, is kept.

    After AutoAttack (Croce and Hein 2020): adaptive steps, several objectives, black-box members, and no parameter to tune to the
    model. `members` are partial attacks that get `measure` and, if they use gradients, `steps` and `restarts` (the first from the
    clean image, the others from random points). Rows contain the harm of each member alone (`attack_harm_MEMBER`) and the number
    of the winner, -1 for none. `verdict` raises flags, among others for a cosine between the clean maps of model and twin below
    `least_cosine`, and for fewer than `least_examples` examples with an iterate that kept the label.
    """

    measure: str
    members: Mapping[str, Callable[..., Attack]]
    steps: int = 40
    restarts: int = 2
    least_cosine: float = 0.9
    least_examples: int = 20
    order: ClassVar[int] = 2

    def __post_init__(self) -> None:
        require_metric(self.measure)
        require(bool(self._having("gradient")), "attack.members", [*self.members], "at least one gradient attack")
        require(-1 <= self.least_cosine <= 1, "attack.least_cosine", self.least_cosine, "from -1 to 1")
        require_at_least("attack.least_examples", self.least_examples, 1)

    @cached_property
    def attacks(self) -> dict[str, Attack]:
        """The members by name, those with the map's own gradient first, since the first of equals wins.

        Errors: `ConfigError` for a member that does not take the shared parameters.
        """
        made = {name: self._member(name, member) for name, member in self.members.items()}
        return dict(sorted(made.items(), key=lambda item: ROLES.index(role_of(item[1]))))

    @property
    def beta(self) -> float | None:
        """Softplus beta of the twin of the first gradient member."""
        return self._gradient_attacks[0].beta

    def betas(self) -> list[float | None]:
        """The first gradient member, whose twin is reported."""
        return [self.beta]

    def start(self, problem: Problem) -> Best:
        """The clean images with their harm, and the notes that need no search."""
        best = Judge.by_measure(problem).start()
        nothing = torch.zeros_like(best.harm)
        notes = {f"harm_{name}": best.harm for name in self.attacks}
        notes |= dict.fromkeys(("rejected", "still", "twin_gain"), nothing)
        notes |= {"twin_cosine": signs.twin_cosine(problem, self._gradient_attacks), "noisy": signs.noisy(problem)}
        return replace(best, notes=notes | {"won": torch.full_like(nothing, -1)})

    def search(self, problem: Problem, epsilon: float, norm: Norm, best: Best) -> Best:
        """The most harmful images, from all members and `best`."""
        tally = signs.Tally(best.harm)
        found = {name: _alone(name, each, problem, tally, epsilon, norm) for name, each in self.attacks.items()}
        notes = dict(best.notes) | {f"harm_{name}": one.harm for name, one in found.items()}
        strongest = Judge.by_measure(problem).start()
        for number, (name, one) in enumerate(found.items()):
            better = one.found & (one.harm > best.harm)
            notes["won"] = torch.where(better, float(number), notes["won"])
            best = merge(best, one, better)
            if name in self._having("gradient"):
                strongest = merge(strongest, one, one.found & (one.harm > strongest.harm))
        notes |= {"rejected": tally.rejected(), "still": signs.still(problem, self._gradient_attacks, epsilon, norm)}
        return replace(best, notes=notes | {"twin_gain": signs.twin_gain(problem, self.beta, strongest.images)})

    def climbs(self, problem: Problem, epsilon: float, norm: Budget) -> Sequence[Climb]:
        """Those of the members with the map's own gradient."""
        return [climb for attack in self._gradient_attacks for climb in attack.climbs(problem, epsilon, norm)]

    def verdict(self, epsilons: Sequence[float], notes: Mapping[str, Tensor]) -> dict[str, Any]:
        """The suite's part of result.json: the members, their shares of wins at each budget, and the flags.

        `notes` are those of all examples, (E, N) each, at these budgets; the first is 0. Empty without a larger one.
        """
        if len(epsilons) < 2:
            return {}
        winners = {
            f"{epsilon:g}": {name: float((won == number).double().mean()) for number, name in enumerate(self.attacks)}
            for epsilon, won in zip(epsilons[1:], notes["won"][1:], strict=True)
        }
        told = {"members": {name: role_of(attack) for name, attack in self.attacks.items()}, "won": winners}
        return {"suite": told, "flags": flags.raised(self._evidence(epsilons, notes))}

    def _evidence(self, epsilons: Sequence[float], notes: Mapping[str, Tensor]) -> flags.Evidence:
        """Harm is compared on the examples whose clean map has one; nothing can be found for the others."""
        known = notes[f"harm_{self._having('gradient')[0]}"][0].isfinite()

        def most(role: str) -> Tensor | None:
            found = [notes[f"harm_{name}"][1:, known] for name in self._having(role)]
            return torch.stack(found).amax(dim=0) if found else None

        gradient = most("gradient")
        assert gradient is not None
        return flags.Evidence(
            epsilons=tuple(epsilons[1:]),
            clean=notes[f"harm_{self._having('gradient')[0]}"][0, known],
            gradient=gradient,
            random=most("random"),
            transfer=most("transfer"),
            query=most("query"),
            still=notes["still"][1:],
            rejected=notes["rejected"][1:],
            twin_gain=notes["twin_gain"][1:, known],
            twin_cosine=notes["twin_cosine"][0],
            noisy=bool(notes["noisy"][0].any()),
            expectation=all(attack.eot > 1 or attack.draws == "fresh" for attack in self._gradient_attacks),
            least_examples=self.least_examples,
            least_cosine=self.least_cosine,
        )

    def _member(self, name: str, made: Callable[..., Attack]) -> Attack:
        fit = isinstance(made, partial)
        require(fit, f"attack.members.{name}", made, "an attack with _partial_: true, still to be given its measure")
        climbs = isinstance(made.func, type) and issubclass(made.func, GradientAttack)  # type: ignore[attr-defined]
        return made(measure=self.measure, **({"steps": self.steps, "restarts": self.restarts} if climbs else {}))

    def _having(self, role: str) -> list[str]:
        return [name for name, attack in self.attacks.items() if role_of(attack) == role]

    @property
    def _gradient_attacks(self) -> list[GradientAttack]:
        return [attack for attack in self.attacks.values() if isinstance(attack, GradientAttack) and _own(attack)]


def _alone(name: str, attack: Attack, problem: Problem, tally: signs.Tally, epsilon: float, norm: Norm) -> Best:
    """What a member finds from the clean images, beside the others; its candidates are tallied."""
    start = attack.start(problem)
    return attack.search(replace(problem.beside(name, start.harm), watch=tally), epsilon, norm, start)


def role_of(attack: Attack) -> str:
    """One of `ROLES`."""
    if isinstance(attack, GradientAttack):
        return "gradient" if _own(attack) else "transfer"
    return "random" if isinstance(attack, RandomAttack) else "query"


def _own(attack: GradientAttack) -> bool:
    return not isinstance(attack, OtherMapAttack)
