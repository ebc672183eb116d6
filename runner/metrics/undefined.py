"""Where a metric has no value: maps that are not finite, and maps that show nothing. Every metric ends with one of these two."""

from __future__ import annotations

import torch
from torch import Tensor


def of_values(values: Tensor, reference: Tensor, other: Tensor) -> Tensor:
    """(N,) values of maps (N, H, W), with nan where either map has nan or inf and where both maps are zero.

    Two zero maps are equal, but nothing was explained that could have been kept.
    """
    first, second = reference.detach().flatten(1), other.detach().flatten(1)
    empty = (first == 0).all(dim=1) & (second == 0).all(dim=1)
    return values.masked_fill(empty | ~_finite(first, second), torch.nan)


def of_patterns(values: Tensor, reference: Tensor, other: Tensor) -> Tensor:
    """The same for metrics of the pattern or order of the pixels, which a constant map lacks.

    Two constant maps have nothing to compare (nan, as scipy's correlations). One constant map has nothing left to agree with the
    other: 0, so that an attack that wipes out a map counts as one.
    """
    first, second = reference.detach().flatten(1), other.detach().flatten(1)
    flat, other_flat = is_constant(first), is_constant(second)
    agreeing = values.masked_fill(flat | other_flat, 0.0)
    return agreeing.masked_fill((flat & other_flat) | ~_finite(first, second), torch.nan)


def is_constant(maps: Tensor) -> Tensor:
    """(N,) bool: whether all pixels of a map (N, ...) have exactly one value."""
    flat = maps.flatten(1)
    return flat.amax(dim=1) == flat.amin(dim=1)


def _finite(first: Tensor, second: Tensor) -> Tensor:
    return first.isfinite().all(dim=1) & second.isfinite().all(dim=1)
