"""An attribution by name, as an object, or as a plain function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from runner.core.errors import ConfigError, require
from runner.core.types import Attribution, Referenced


@dataclass(frozen=True)
class PlainFunction:
    """A function (model, images, targets) -> maps, or with `keys` as a fourth argument, as an attribution."""

    function: Callable[..., Tensor]
    takes_keys: bool

    @property
    def stochastic(self) -> bool:
        """Whether its maps depend on `keys`: if it takes them."""
        return self.takes_keys

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        """Maps (N, C, H, W). Errors: `ConfigError` for another shape or type."""
        maps = self.function(model, images, targets, keys) if self.takes_keys else self.function(model, images, targets)
        return checked(maps, images)


def as_attribution(given: Any) -> Attribution:
    """An attribution object as it is, a function as one. Errors: `ConfigError` for another signature."""
    if isinstance(given, Attribution) and not isinstance(given, type):
        return given
    allowed = "a name, a function (model, images, targets) or an attribution as in runner.core.types"
    require(callable(given) and not isinstance(given, type), "attribution", type(given).__name__, allowed)
    for count in (4, 3):
        try:
            inspect.signature(given).bind(*range(count))
        except TypeError:
            continue
        return PlainFunction(given, takes_keys=count == 4)
    name = getattr(given, "__name__", type(given).__name__)
    raise ConfigError(f"attribution={name}{inspect.signature(given)}: must take (model, images, targets)")


def with_training_images(attribution: Attribution, images: Tensor | None) -> Attribution:
    """The attribution with the images (R, C, H, W) that it compares with, if it does. Errors: `ConfigError` if it needs more."""
    if not isinstance(attribution, Referenced):
        return attribution
    available, wanted = 0 if images is None else len(images), attribution.references
    allowed = f"at most the {available} images of training_images=IMAGES"
    require(images is not None and wanted <= available, "attribution.references", wanted, allowed)
    assert images is not None
    return attribution.with_references(images[:wanted])


def checked(maps: Any, images: Tensor) -> Tensor:
    """Maps, if they are a floating tensor with the shape of the images. Errors: `ConfigError`."""
    require(
        isinstance(maps, Tensor), "attribution", f"returns {type(maps).__name__}", "a function that returns a tensor"
    )
    shape, wanted = list(maps.shape), list(images.shape)
    require(
        shape == wanted,
        "attribution",
        f"returns {shape} for images {wanted}",
        "a function that returns a map of their shape",
    )
    require(torch.is_floating_point(maps), "attribution", f"returns {maps.dtype}", "a function that returns floats")
    found: Tensor = maps
    return found
