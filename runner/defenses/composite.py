"""Any weighted sum of regularisers on top of any defense: adversarial training with smooth surface regularisation, ..."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from runner.core.errors import ConfigError, require
from runner.core.types import Batch, Defense, Stateful
from runner.defenses.regulariser import Regulariser


@dataclass(frozen=True)
class Composite:
    """loss of `base` + sum over `terms` of weight * penalty.

    `terms`: by a name of your choice, a mapping of `weight` and `defense`, which must be a regulariser. Only its penalty is
    used: its own weight (`alpha`, `s`, `weight`, ...) and warm-up have no effect here. Base and terms get the same batch.
    `state` is that of all parts, under `base.` and `NAME.`; `replays` is that of the base.
    """

    base: Any
    terms: dict[str, Any]
    state: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        key, got = "defense.base", type(self.base).__name__
        require(isinstance(self.base, Defense), key, got, "a defense, such as runner.defenses.natural.Natural")
        require("base" not in self.terms, "defense.terms", sorted(self.terms), "names other than base")
        for name, term in self.terms.items():
            _check(f"defense.terms.{name}", term)

    @property
    def replays(self) -> int:
        """Steps on each batch, as many as the base takes."""
        return int(getattr(self.base, "replays", 1))

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum, the scalars of the base, and `penalty_NAME` of each term before weighting."""
        self._hand_out()
        loss, scalars = self.base.loss(model, batch)
        for name, term in self.terms.items():
            penalty = term["defense"].penalty(model, batch)
            loss = loss + term["weight"] * penalty
            scalars[f"penalty_{name}"] = penalty.detach()
        self._collect()
        return loss, scalars

    def _stateful(self) -> Iterator[tuple[str, Stateful]]:
        parts = {"base": self.base, **{name: term["defense"] for name, term in self.terms.items()}}
        return ((f"{name}.", part) for name, part in parts.items() if isinstance(part, Stateful))

    def _hand_out(self) -> None:
        """Give each part its own state, which a resumed training restored in this one."""
        for prefix, part in self._stateful():
            own = {name: tensor for name, tensor in self.state.items() if name.startswith(prefix)}
            part.state.update({name.removeprefix(prefix): tensor for name, tensor in own.items()})

    def _collect(self) -> None:
        for prefix, part in self._stateful():
            self.state.update({f"{prefix}{name}": tensor for name, tensor in part.state.items()})


def _check(key: str, term: Any) -> None:
    keys = sorted(term) if isinstance(term, Mapping) else term
    require(keys == ["defense", "weight"], key, keys, "a weight and a defense")
    weight, defense = term["weight"], term["defense"]
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    require(number and weight >= 0, f"{key}.weight", weight, "a number of at least 0")
    if not isinstance(defense, Regulariser):
        raise ConfigError(f"{key}.defense={type(defense).__name__}: must be a regulariser, a defense with a `penalty`")
