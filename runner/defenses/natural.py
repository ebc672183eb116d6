"""Natural training: the mean cross-entropy of clean images."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from runner.core.types import Batch


@dataclass(frozen=True)
class Natural:
    """No defense."""

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean cross-entropy."""
        return F.cross_entropy(model(batch.images), batch.labels), {}
