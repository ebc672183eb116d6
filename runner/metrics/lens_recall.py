"""LENS recall: the share of the attacked map's top pixels that lie near a top pixel of the clean map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from runner.core.types import Direction
from runner.metrics.neighbourhood import check_settings, dilate, share, top_pixels
from runner.metrics.undefined import of_patterns


@dataclass(frozen=True)
class LensRecall:
    """w-LENS-recall@k = |N_w(TopK(a)) & TopK(b)| / k (Kamath et al., AAAI 2024), a the clean and b the attacked map.

    N_w: everything inside a `window` x `window` square around one of the pixels. `diverse` takes the top-k-div pixels of
    either map instead of the top k. Not symmetric: exchanging the maps gives the LENS precision. A constant map has no top pixels:
    0 against another map, nan for two of them.
    """

    k: int
    window: int = 3
    diverse: bool = False
    direction: ClassVar[Direction] = "higher"
    symmetric: ClassVar[bool] = False
    name: ClassVar[str] = "lens_recall"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    unit: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_settings(self.name, self.k, self.window)

    def __call__(self, reference: Tensor, other: Tensor) -> Tensor:
        """Two (N, H, W) -> (N,) float64. Errors: `ConfigError` when k exceeds the number of pixels."""
        clean, attacked = (top_pixels(maps, self.k, self.window, self.diverse) for maps in (reference, other))
        return of_patterns(share(dilate(clean, self.window), attacked), reference, other)
