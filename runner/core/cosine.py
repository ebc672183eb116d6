"""How alike two stacks of maps are."""

from __future__ import annotations

import torch
from torch import Tensor


def map_cosines(first: Tensor, second: Tensor) -> Tensor:
    """(N,) float64 cosines of maps (N, ...): 0 where one map is zero, nan where both are, since two zero maps show nothing."""
    ours, theirs = first.detach().double().flatten(1), second.detach().double().flatten(1)
    empty = (ours == 0).all(dim=1) & (theirs == 0).all(dim=1)
    return torch.nn.functional.cosine_similarity(ours, theirs, dim=1).masked_fill(empty, torch.nan)


def mean_cosine(cosines: Tensor) -> float | None:
    """The mean of those that are defined; None if none is."""
    defined = cosines[cosines.isfinite()]
    return float(defined.mean()) if len(defined) else None
