"""The options that all gradient maps share, and the check of sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from runner.attributions.passes import Output
from runner.core.errors import require, require_at_least
from runner.core.grid import Number, exact

Scale = Literal["unit", "image"]


@dataclass(frozen=True, kw_only=True)
class GradientOptions:
    """`output`: the differentiated output. `multiply_by_input`: whether the gradient is multiplied by the image.

    `chunk`: largest number of images in one forward pass, null for all; affects only memory and rounding.
    """

    output: Output = "logit"
    multiply_by_input: bool = False
    chunk: int | None = None

    def __post_init__(self) -> None:
        require_at_least("attribution.chunk", self.chunk, 1)


def amount(key: str, value: Number) -> float:
    """A size of at least 0, written as 0.2 or 4/255."""
    size = float(exact(value, key))
    require(size >= 0, key, value, "a number of at least 0, such as 0.2 or 4/255")
    return size


def ranges(images: Tensor, relative_to: Scale) -> Tensor:
    """(N, 1, 1, 1, 1) unit of noise: 1, the range of [0, 1] images, or each image's own max - min (differentiable)."""
    if relative_to == "unit":
        return images.new_ones(len(images), 1, 1, 1, 1)
    flat = images.flatten(1)
    return (flat.amax(dim=1) - flat.amin(dim=1)).reshape(-1, 1, 1, 1, 1)
