"""LENS precision: the share of the clean map's top pixels that lie near a top pixel of the attacked map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from runner.metrics.lens_recall import LensRecall


@dataclass(frozen=True)
class LensPrecision(LensRecall):
    """w-LENS-precision@k = |TopK(a) & N_w(TopK(b))| / k (Kamath et al., AAAI 2024): the LENS recall of the exchanged maps."""

    name: ClassVar[str] = "lens_precision"

    def __call__(self, reference: Tensor, other: Tensor) -> Tensor:
        """Two (N, H, W) -> (N,) float64. Errors: `ConfigError` when k exceeds the number of pixels."""
        return super().__call__(other, reference)
