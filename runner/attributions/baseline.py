"""A baseline image of one colour, given by one number or one per channel."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from runner.core.errors import require
from runner.core.grid import Number, exact

Baseline = Number | Sequence[Number]


def levels(baseline: Baseline) -> list[float]:
    """The numbers as floats. Errors: `ConfigError` naming attribution.baseline."""
    listed = isinstance(baseline, Sequence) and not isinstance(baseline, str)
    values = baseline if listed else [baseline]
    require(len(values) > 0, "attribution.baseline", baseline, "a number, or a list of one a channel")  # type: ignore[arg-type]
    numbers = [float(exact(value, "attribution.baseline")) for value in values]  # type: ignore[union-attr, arg-type]
    require(all(0 <= number <= 1 for number in numbers), "attribution.baseline", baseline, "in [0, 1], as pixels are")
    return numbers


def level_image(baseline: Baseline, images: Tensor) -> Tensor:
    """(C or 1, 1, 1). Errors: `ConfigError` when it does not match the images' number of channels."""
    numbers, channels = levels(baseline), images.shape[1]
    allowed = f"one number, or one for each of the {channels} channels"
    require(len(numbers) in (1, channels), "attribution.baseline", baseline, allowed)
    return images.new_tensor(numbers).reshape(-1, 1, 1)
