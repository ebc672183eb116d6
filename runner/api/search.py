"""What a caller asks of an attack, as the objects that a job builds from its config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from runner.api.attributions import as_attribution
from runner.api.door import whole_number
from runner.api.maps import grid
from runner.api.options import Metrics, chosen_metrics, described, no_options, prefixed
from runner.core.attack_types import Attack
from runner.core.errors import ConfigError, require
from runner.core.types import Budget
from runner.runs.parts import LABELS, Parts
from runner.runs.validation import check_search


@dataclass(frozen=True)
class Asked:
    """The choices of one call of `attack`."""

    attribution: Any
    attack: Any
    epsilons: Sequence[float | int | str]
    norm: Budget
    metrics: Metrics
    k: int | None
    reduction: str
    common_noise: bool
    seed: int
    attack_seed: int
    attribution_options: dict[str, Any]
    attack_options: dict[str, Any]

    def __post_init__(self) -> None:
        """Refuse settings of another type, and options of objects."""
        if "chunk" in self.attack_options:
            whole_number(self.attack_options["chunk"], "attack.chunk", 1)
        require(isinstance(self.common_noise, bool), "common_noise", self.common_noise, "True or False")
        if not isinstance(self.attribution, str):
            no_options("attribution", self.attribution_options)
        if not isinstance(self.attack, str):
            no_options("attack", {key: 0 for key in self.attack_options if key not in LABELS["attack"]})

    @property
    def names(self) -> dict[str, str]:
        """Labels of the attribution and the attack."""
        return {"attribution": _name(self.attribution), "attack": _name(self.attack)}


def parts_of(asked: Asked, model: nn.Module, image: Tensor) -> Parts:
    """The objects of a search on images like `image` (1, C, H, W). Errors: `ConfigError` when they do not fit together."""
    named, settings, objects = chosen_metrics(asked.metrics)
    groups: dict[str, str | Sequence[str]] = {"metrics": named}
    given: dict[str, Any] = {}
    if isinstance(asked.attribution, str):
        groups["attribution"] = asked.attribution
    else:
        given["attribution"] = as_attribution(asked.attribution)
    if isinstance(asked.attack, str):
        groups["attack"] = asked.attack
    else:
        given["attack"] = _as_attack(asked.attack)
    channels, height, width = image.shape[1:]
    settings |= grid((channels, height, width), asked.k)
    settings |= prefixed("attribution", asked.attribution_options) | prefixed("attack", asked.attack_options)
    settings |= {"metrics.reduction": asked.reduction, "metrics.common_noise": asked.common_noise}
    config = described(groups, settings)
    for group in given:
        config[group] = {**config[group], "name": asked.names[group]}
    config["epsilon"] = _budgets(asked)
    given["model"] = model
    parts = Parts(config, {}, given)
    if objects:
        made = (parts.metrics if named else {}) | objects
        parts = Parts(config, parts.built, {**given, "metrics": {name: made[name] for name in asked.metrics}})
    if getattr(parts.attack, "takes_source", False):
        raise ConfigError(f"attack={asked.names['attack']}: takes its images from another run, which only a job has")
    check_search(config, parts)
    return parts


def _budgets(asked: Asked) -> dict[str, Any]:
    try:
        values = [asked.epsilons] if isinstance(asked.epsilons, (int, float, str)) else list(asked.epsilons)
        plain = [value if isinstance(value, (int, str)) else float(value) for value in values]
    except TypeError:
        allowed = "a budget, or a list of budgets such as [0.25, 0.5] or ['8/255']"
        raise ConfigError(f"epsilons={asked.epsilons}: must be {allowed}") from None
    require(len(values) > 0, "epsilons", "[]", "at least one budget")
    return {"name": "given", "_target_": "runner.core.grid.EpsilonGrid", "norm": asked.norm, "values": plain}


def _as_attack(given: Any) -> Any:
    good = isinstance(given, Attack) and not isinstance(given, type) and hasattr(given, "measure")
    require(good, "attack", _name(given), "a name, or an attack as in runner.core.attack_types with a measure")
    return given


def _name(given: Any) -> str:
    return given if isinstance(given, str) else getattr(given, "__name__", type(given).__name__)
