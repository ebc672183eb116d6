"""Top-k intersection: the share of the k most important pixels that two maps have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from runner.core.errors import require, require_at_least
from runner.core.types import Direction
from runner.metrics.undefined import of_patterns


@dataclass(frozen=True)
class TopKIntersection:
    """|TopK(a) & TopK(b)| / k (Ghorbani et al., 2019). Of pixels with equal values, those that come first count.

    A constant map has no top pixels: 0 against another map, nan for two of them.
    """

    k: int
    direction: ClassVar[Direction] = "higher"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    unit: ClassVar[str] = ""

    def __post_init__(self) -> None:
        require_at_least("metrics.k", self.k, 1)

    def __call__(self, reference: Tensor, other: Tensor) -> Tensor:
        """Two (N, H, W) -> (N,) float64. Errors: `ConfigError` when k exceeds the number of pixels."""
        pixels = reference[0].numel()
        require(self.k <= pixels, "metrics.k", self.k, f"at most {pixels}, the pixels of a map")
        shared = (top_mask(reference, self.k) & top_mask(other, self.k)).sum(dim=1).double() / self.k
        return of_patterns(shared, reference, other)


def top_mask(maps: Tensor, k: int) -> Tensor:
    """(N, H, W) -> (N, H*W) bool, exactly k pixels a row; `torch.topk` alone leaves open which of equals it takes."""
    flat = maps.detach().flatten(1)
    kth = flat.topk(k, dim=1).values[:, -1:]
    above, level = flat > kth, flat == kth
    room = k - above.sum(dim=1, keepdim=True)
    return above | (level & (level.cumsum(dim=1) <= room))
