"""An attribution of the user's own: any function or object that makes a map of a model, images and targets."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from runner.core.build import build, called
from runner.core.errors import ConfigError, require
from runner.core.frozen_passes import cheap_derivatives
from runner.core.locate import locate
from runner.core.types import Attribution

_INPUTS = ("model", "images", "targets")


@dataclass(frozen=True)
class Own:
    """A function as an attribution: its map is checked and brought to the shape (N, C, H, W).

    `takes_keys`: whether it is called with the random keys (N,) too. `stochastic`: whether the map depends on them.
    """

    function: Callable[..., Tensor]
    name: str
    """Where the function is from, as `key=value`, for messages."""
    takes_keys: bool
    stochastic: bool
    differentiable: bool
    exact_gradient: bool

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        """(N, C, H, W). A map without channels, (N, H, W) or (N, 1, H, W), is divided equally among them.

        Errors: `ConfigError` for a map of another shape or type.
        """
        given = (model, images, targets, keys) if self.takes_keys else (model, images, targets)
        with cheap_derivatives(model):
            maps = self.function(*given)
        self._check(maps, images)
        maps = maps.unsqueeze(1) if maps.dim() == 3 else maps
        if maps.shape[1] != images.shape[1]:
            maps = maps.expand(-1, images.shape[1], -1, -1) / images.shape[1]
        return maps if torch.is_grad_enabled() and images.requires_grad else maps.detach()

    def inspect(self, model: nn.Module, images: Tensor) -> bool:
        """Whether the map has a gradient in the images. Errors: `ConfigError` for a map of another shape or type."""
        leaf, targets = images.clone().requires_grad_(), torch.zeros(len(images), dtype=torch.int64)
        keys = torch.arange(len(images), dtype=torch.int64)
        if images.is_meta:
            return self(model, leaf, targets, keys).requires_grad
        return called(lambda: self(model, leaf, targets, keys), self.name).requires_grad

    def _check(self, maps: object, images: Tensor) -> None:
        count, channels, *size = images.shape
        wanted = f"a map (N, {channels}, {size[0]}, {size[1]}) or (N, {size[0]}, {size[1]}) of {images.dtype}"
        if not isinstance(maps, Tensor):
            raise ConfigError(f"{self.name}: must return {wanted}, not a {type(maps).__name__}")
        fits = list(maps.shape) in ([count, channels, *size], [count, 1, *size], [count, *size])
        if not fits or maps.dtype != images.dtype:
            raise ConfigError(
                f"{self.name}: must return {wanted}, not {list(maps.shape)} of {maps.dtype} for N = {count}"
            )


def own(target: str, args: Mapping[str, Any] | None = None) -> Attribution:
    """The attribution at a dotted path: a function (model, images, targets) or (model, images, targets, keys), or a class.

    `args` are the function's further arguments, or those of the class. Errors: `ConfigError` naming attribution.target.
    """
    made, given = locate(target, "attribution.target"), dict(args or {})
    name = f"attribution.target={target}"
    require(callable(made), "attribution.target", target, "a function or a class")
    if is_map(made):
        given["_partial_"] = True
    elif not inspect.isclass(made) and not given.keys() >= {parameter.name for parameter in _needed(made)}:
        return as_attribution(made, name)  # which says what a map takes
    return as_attribution(called(lambda: build({"_target_": target, **given}, "attribution.args"), name), name)


def is_map(made: Any) -> bool:
    """Whether this is itself a function of a model, images and targets, and not one that returns such a function."""
    if inspect.isclass(made):
        return False
    names = [parameter.name for parameter in _positional(made)]
    return tuple(names[:3]) == _INPUTS or len(_needed(made)) >= len(_INPUTS)


def as_attribution(made: Any, name: str) -> Attribution:
    """A callable as an attribution; one that is an attribution already stays as it is. Errors: `ConfigError` for a signature.

    It gets the keys if it has a parameter `keys`, or four parameters without a default. Then it counts as stochastic, unless it
    says `stochastic = False`; it may say `differentiable` and `exact_gradient` too, as any attribution.
    """
    allowed = "a function (model, images, targets) or (model, images, targets, keys)"
    if not callable(made):
        raise ConfigError(
            f"{name}: must be {allowed}, or a class of which an object is one, not a {type(made).__name__}"
        )
    positional, needed = _positional(made), _needed(made)
    keyed = len(positional) > 3 and (positional[3].name == "keys" or len(needed) == 4)
    if len(positional) < 3 or len(needed) > 4 or _other_needed(made):
        raise ConfigError(f"{name}: must be {allowed}, not one of ({', '.join(_names(made))})")
    source = made.func if isinstance(made, partial) else made
    says = {
        "stochastic": bool(getattr(source, "stochastic", keyed)),
        "differentiable": bool(getattr(source, "differentiable", True)),
        "exact_gradient": bool(getattr(source, "exact_gradient", True)),
    }
    return Own(made, name, keyed, **says)


def _parameters(made: Any) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(made).parameters.values())
    except (TypeError, ValueError):  # code in C that says nothing of itself
        return []


def _positional(made: Any) -> list[inspect.Parameter]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [parameter for parameter in _parameters(made) if parameter.kind in kinds]


def _needed(made: Any) -> list[inspect.Parameter]:
    return [parameter for parameter in _positional(made) if parameter.default is parameter.empty]


def _other_needed(made: Any) -> bool:
    """Whether it needs arguments by name, which nothing gives it."""
    only = inspect.Parameter.KEYWORD_ONLY
    return any(parameter.kind is only and parameter.default is parameter.empty for parameter in _parameters(made))


def _names(made: Any) -> list[str]:
    return [parameter.name for parameter in _parameters(made)]
