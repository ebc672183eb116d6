"""A network of the user's own, by the dotted path of its class or function."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from runner.core.build import build, called
from runner.core.errors import require
from runner.core.locate import locate
from runner.models.parts import Activation, Shape
from runner.models.wrapping import wrapped


def own(  # noqa: PLR0913  (one parameter a key of the YAML)
    *,
    shape: Shape,
    classes: int,
    target: str,
    args: Mapping[str, Any] | None = None,
    activation: Activation | None = None,
    beta: float = 10.0,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    weights: str | None = None,
) -> nn.Module:
    """`target(**args)`, a network that gives logits (N, `classes`) for images of `shape` in [0, 1], normalised by `mean`, `std`.

    Errors: `ConfigError` naming model.target or model.args.NAME.
    """
    return wrapped(_network(target, dict(args or {})), shape, (activation, beta), (mean, std), weights)


def _network(target: str, args: dict[str, Any]) -> nn.Module:
    made = locate(target, "model.target")
    fits = inspect.isclass(made) or inspect.isroutine(made)
    require(fits, "model.target", target, "a class or a function that returns a torch.nn.Module")
    network = called(lambda: build({"_target_": target, **args}, "model.args"), f"model.target={target}")
    require(
        isinstance(network, nn.Module), "model.target", target, f"one that returns a torch.nn.Module, not {network!r}"
    )
    built: nn.Module = network
    return built
