"""Regularisers: defenses whose loss is the cross-entropy of clean images plus a weighted penalty.

The unweighted penalty is a method of its own, so that `composite` can add penalties to any other loss.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch.nn.functional as F
from torch import Tensor, nn

from runner.core.types import Batch
from runner.defenses.modes import clean_logits


@runtime_checkable
class Regulariser(Protocol):
    """A defense that can also return its penalty alone."""

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The whole loss, as for every defense; usually `regularised(self, model, batch, weight)`."""

    def penalty(self, model: nn.Module, batch: Batch) -> Tensor:
        """Scalar before weighting, differentiable in the parameters: a mean over examples, or a sum over layers."""


def regularised(
    regulariser: Regulariser, model: nn.Module, batch: Batch, weight: float, clean_weight: float = 1.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """clean_weight * cross-entropy + weight * penalty, and `clean_loss` and `penalty` (unweighted) to log."""
    clean = F.cross_entropy(clean_logits(model, batch.images), batch.labels)
    penalty = regulariser.penalty(model, batch)
    scalars = {"clean_loss": clean.detach(), "penalty": penalty.detach()}
    return clean_weight * clean + weight * penalty, scalars
