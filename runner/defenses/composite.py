"""Any weighted sum of regularisers on top of any defense, such as adversarial training with smooth surface regularisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from runner.core.errors import ConfigError, require
from runner.core.types import Batch, Defense, kept_state, steps_per_batch
from runner.defenses.regulariser import Regulariser


@dataclass(frozen=True)
class Composite:
    """loss of `base` + sum over `terms` of weight * penalty.

    `terms`: name -> `weight` and `defense`, which must be a regulariser. Only its penalty is used; its own weight (`alpha`, `s`,
    `weight`, ...) and warm-up have no effect. Base and terms get the same batch. `state` combines the states of all parts, under
    `base.` and `NAME.`; `replays` is that of the base.
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
        """Steps on each batch, as in the base."""
        return steps_per_batch(self.base)

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

    def _parts(self) -> dict[str, Any]:
        """The parts by the prefix of their tensors in `state`."""
        return {"base.": self.base, **{f"{name}.": term["defense"] for name, term in self.terms.items()}}

    def _hand_out(self) -> None:
        """Pass the state that a resumed training has restored here on to the parts."""
        for prefix, part in self._parts().items():
            own = {name: tensor for name, tensor in self.state.items() if name.startswith(prefix)}
            kept_state(part).update({name.removeprefix(prefix): tensor for name, tensor in own.items()})

    def _collect(self) -> None:
        for prefix, part in self._parts().items():
            self.state.update({f"{prefix}{name}": tensor for name, tensor in kept_state(part).items()})


def _check(key: str, term: Any) -> None:
    keys = sorted(term) if isinstance(term, Mapping) else term
    require(keys == ["defense", "weight"], key, keys, "a weight and a defense")
    weight, defense = term["weight"], term["defense"]
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    require(number and weight >= 0, f"{key}.weight", weight, "a number of at least 0")
    if not isinstance(defense, Regulariser):
        raise ConfigError(f"{key}.defense={type(defense).__name__}: must be a regulariser, a defense with a `penalty`")
