"""Top-k-div intersection: the share of the k most important and mutually distant pixels that two maps have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from runner.core.types import Direction
from runner.metrics.neighbourhood import check_settings, top_pixels
from runner.metrics.undefined import of_patterns


@dataclass(frozen=True)
class TopKDiversity:
    """|Div(a) & Div(b)| / k, Div the k top-k-div pixels of a map: no two within a `window` x `window` square of each other
    (Kamath et al., AAAI 2024).

    So large a k that a map has no such pixels left makes its set smaller; the share is then of the larger of the two sets. A
    constant map has no top pixels: 0 against another map, nan for two of them.
    """

    k: int
    window: int = 3
    direction: ClassVar[Direction] = "higher"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    unit: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_settings("topk_diversity", self.k, self.window)

    def __call__(self, reference: Tensor, other: Tensor) -> Tensor:
        """Two (N, H, W) -> (N,) float64. Errors: `ConfigError` when k exceeds the number of pixels."""
        first, second = (top_pixels(maps, self.k, self.window, diverse=True) for maps in (reference, other))
        sizes = [pixels.sum(dim=(1, 2)) for pixels in (first, second)]
        return of_patterns((first & second).sum(dim=(1, 2)).double() / torch.maximum(*sizes), reference, other)
