"""Ranks of the pixels of a map, ties included, for whole batches."""

from __future__ import annotations

import torch
from torch import Tensor


def runs(ordered: Tensor) -> tuple[Tensor, Tensor]:
    """First and last position (N, P) of the run of equal values around each item of sorted rows (N, P)."""
    positions = torch.arange(ordered.shape[1], device=ordered.device).expand_as(ordered)
    edge = torch.ones_like(ordered[:, :1], dtype=torch.bool)
    change = ordered[:, 1:] != ordered[:, :-1]
    starts = torch.where(torch.cat((edge, change), dim=1), positions, 0)
    ends = torch.where(torch.cat((change, edge), dim=1), positions, ordered.shape[1])
    return starts.cummax(dim=1).values, ends.flip(1).cummin(dim=1).values.flip(1)


def average_ranks(values: Tensor) -> Tensor:
    """(N, P) -> (N, P) float64 ranks from 0; equal values share the mean of their ranks."""
    ordered, order = values.sort(dim=1)
    first, last = runs(ordered)
    return torch.empty_like(values, dtype=torch.float64).scatter_(1, order, (first + last).double() / 2)


def lowest_ranks(values: Tensor) -> Tensor:
    """(N, P) -> (N, P) int64 ranks from 0; equal values share the lowest of their ranks."""
    ordered, order = values.sort(dim=1)
    return torch.empty_like(order).scatter_(1, order, runs(ordered)[0])


def tied_pairs(ordered: Tensor) -> Tensor:
    """(N,) int64: the pairs of equal values in sorted rows (N, P)."""
    positions = torch.arange(ordered.shape[1], device=ordered.device)
    return (positions - runs(ordered)[0]).sum(dim=1)
