"""An attribution by name, as an object, or as a plain function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from runner.attributions import own
from runner.core.errors import require
from runner.core.types import Attribution, Referenced


def as_attribution(given: Any) -> Attribution:
    """An attribution object as it is, a function as one. Errors: `ConfigError` for another signature."""
    if isinstance(given, Attribution) and not isinstance(given, type):
        return given
    allowed = "a name, a function (model, images, targets) or an attribution as in runner.core.types"
    require(callable(given) and not isinstance(given, type), "attribution", type(given).__name__, allowed)
    return own.as_attribution(given, f"attribution={getattr(given, '__name__', type(given).__name__)}")


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
