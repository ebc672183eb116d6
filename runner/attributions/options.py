"""The options that all gradient maps share, and the checks of their values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from runner.attributions.gradients import OUTPUTS, Output
from runner.core.errors import ConfigError, require
from runner.core.grid import Number, exact

Scale = Literal["unit", "image"]
SCALES: tuple[Scale, ...] = get_args(Scale)


@dataclass(frozen=True, kw_only=True)
class GradientOptions:
    """`output`: what is differentiated. `multiply_by_input`: whether the gradient is multiplied by the image.

    `chunk`: the largest number of images in one forward pass, null for all at once: memory and rounding only.
    """

    output: Output = "logit"
    multiply_by_input: bool = False
    chunk: int | None = None

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise ConfigError.choice("attribution.output", self.output, OUTPUTS)
        flag = isinstance(self.multiply_by_input, bool)
        require(flag, "attribution.multiply_by_input", self.multiply_by_input, "true or false")
        if self.chunk is not None:
            require_count("attribution.chunk", self.chunk)


def require_count(key: str, value: object) -> None:
    """Refuse everything but whole numbers from 1."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    require(whole, key, value, "a whole number of at least 1")


def amount(key: str, value: Number) -> float:
    """A size of at least 0, written as 0.2 or 4/255."""
    size = float(exact(value, key))
    require(size >= 0, key, value, "a number of at least 0, such as 0.2 or 4/255")
    return size


def require_scale(value: object) -> None:
    """Refuse an unknown unit of noise."""
    if value not in SCALES:
        raise ConfigError.choice("attribution.relative_to", value, SCALES)


def ranges(images: Tensor, relative_to: Scale) -> Tensor:
    """(N, 1, 1, 1, 1) unit of noise: 1, the range of [0, 1] images, or each image's own max - min (differentiable)."""
    if relative_to == "unit":
        return images.new_ones(len(images), 1, 1, 1, 1)
    flat = images.flatten(1)
    return (flat.amax(dim=1) - flat.amin(dim=1)).reshape(-1, 1, 1, 1, 1)
