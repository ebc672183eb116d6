"""The contract of attacks: the problem they are given, the images they return, and what they declare about themselves.

Shapes as in `runner.core.types`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from runner.core.types import NORMS, Budget, Explain, Norm, Twin

if TYPE_CHECKING:
    from torch import Tensor, nn

    from runner.core.trace import Trace


@dataclass(frozen=True)
class Problem:
    """Everything that an attack may use on one chunk of examples; an attack sees nothing else."""

    model: nn.Module
    twin: Twin
    explain: Explain
    harm: Callable[[Tensor, Tensor], Tensor]
    """(reference maps, maps) -> (N,), larger is worse for the attribution: decides which images are kept."""
    images: Tensor
    targets: Tensor
    """The classes predicted on the clean images: the maps explain them, and the attack must preserve them."""
    partners: Tensor
    """Another test image for each example: targeted attacks aim for its map."""
    keys: Tensor
    """Random keys of the attack, (N,); `runner.core.rng.fold` derives streams from them."""
    stored: Callable[[float], Tensor] | None = None
    """epsilon -> images (N, C, H, W) that the attack's `source` run found for these examples; None without a source."""
    reduce: Callable[[Tensor], Tensor] = field(default=lambda maps: maps.abs().sum(dim=1))
    """Maps (N, C, H, W) -> (N, H, W), as in `explain`: for attacks that also compute other attributions."""
    watch: Callable[[Tensor], None] | None = None
    """Called for every judged candidate with whether it keeps the label, (N,) bool; used by attacks made of attacks."""
    again: bool = False
    """Whether this budget was searched before: with other random draws than these, and `best` holds what that found."""
    trace: Trace | None = None
    """Sees every candidate of the search and its harm: how far the search is from its end."""

    def beside(self, name: str, start: Tensor) -> Problem:
        """The problem for a part of a search, which begins with harm `start` (N,) and runs beside the other parts."""
        return self if self.trace is None else replace(self, trace=self.trace.beside(name, start))


@dataclass(frozen=True)
class Best:
    """The most harmful label-preserving images found so far. `harm` starts at the clean image's value."""

    images: Tensor
    harm: Tensor
    found: Tensor
    """(N,) bool: whether anything other than the clean image was ever kept."""
    notes: Mapping[str, Tensor] = field(default_factory=dict)
    """Further values per example at this budget, (N,) each; rows carry them as columns `attack_NAME`."""


@runtime_checkable
class Attack(Protocol):
    """A search inside a ball: `start` scores the clean images, `search` improves on the result of smaller balls.

    Class variables declare exceptions: `norms` for other norms than l2 and linf, `ball = False` if the images need not lie in
    a pixel ball, `preserves_label = False` if the predicted class may change.
    """

    @property
    def order(self) -> int:
        """Order of the derivatives taken through the model: 0 (none), 1, or 2 (gradients of an attribution)."""

    def start(self, problem: Problem) -> Best:
        """The clean images, as the first `Best`."""

    def search(self, problem: Problem, epsilon: float, norm: Norm, best: Best) -> Best:
        """The best images inside the ball of `epsilon`, at least as harmful as `best` (from a smaller ball)."""


@dataclass(frozen=True)
class Climb:
    """What an attack raises by its gradient, and where."""

    objective: Callable[[Tensor], Tensor]
    """Points (N, ...) -> values (N,), differentiable in the points: those of a first step."""
    observed: Callable[[Tensor], Tensor]
    """Points (N, ...) -> what is to change on the true model, (N, ...): maps, or logits."""
    clean: Tensor
    """(N, ...) the points of the clean images, in [0, 1]."""
    epsilon: float
    norm: Budget


@runtime_checkable
class Climbing(Protocol):
    """An attack that follows gradients; whether they lead anywhere is measured before it starts."""

    def climbs(self, problem: Problem, epsilon: float, norm: Budget) -> Sequence[Climb]:
        """Its ascents at this budget; one for most attacks."""


@runtime_checkable
class Reviewing(Protocol):
    """An attack that adds a summary to the result of a finished run."""

    def verdict(self, epsilons: Sequence[float], notes: Mapping[str, Tensor]) -> dict[str, Any]:
        """Plain data for result.json, from the notes of all examples, (E, N) each, at these budgets."""


def budgets(attack: Attack) -> tuple[Budget, ...]:
    """The norms that an attack supports: `norms`, by default l2 and linf."""
    return tuple(getattr(attack, "norms", NORMS))


def in_ball(attack: Attack) -> bool:
    """Whether `images - clean` lies in the ball of epsilon; False for transforms of the image (`ball`)."""
    return bool(getattr(attack, "ball", True))


def preserves_label(attack: Attack) -> bool:
    """Whether the attack keeps only images of the predicted class (`preserves_label`)."""
    return bool(getattr(attack, "preserves_label", True))
