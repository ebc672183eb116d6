"""Orders and ties of the pixels of a map, for whole batches, by sorts of integers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_CPU_PIXELS, _PIXELS = 1 << 17, 1 << 22


def in_groups(compute: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor) -> Tensor:
    """`compute` of two maps (N, H, W) as rows (n, P) -> (N,), a group of rows at a time: bounds memory, and fits a CPU's cache."""
    first, second = first.detach().flatten(1), second.detach().flatten(1)
    limit = _CPU_PIXELS if first.device.type == "cpu" else _PIXELS
    rows = max(1, limit // first.shape[1])
    return torch.cat([compute(*pair) for pair in zip(first.split(rows), second.split(rows), strict=True)])


def sort_integers(values: Tensor) -> Tensor:
    """(..., P) contiguous integers, sorted along the last dimension; may overwrite `values`."""
    if values.device.type != "cpu":
        return values.sort(dim=-1).values
    values.numpy().sort(axis=-1)  # with vector instructions, 4 to 6 times as fast as torch
    return values


def order_keys(values: Tensor) -> Tensor:
    """(N, P) -> (N, P) int64 in the range of int32, in the order of the values and equal where they are; nan is in no order."""
    if values.dtype == torch.float64:
        ordered, order = values.sort(dim=1)
        return torch.empty_like(order).scatter_(1, order, run_starts(changes(ordered)))
    bits = (values.float() + 0.0).view(torch.int32)  # -0.0 + 0.0 is 0.0
    return bits.bitwise_xor_((bits >> 31).bitwise_and_(0x7FFFFFFF)).long()


def sort_with(keys: Tensor, carried: Tensor) -> Tensor:
    """(N, P) keys << 32 | carried in ascending order, `carried` being of 0 to 2^32 - 1: one sort for both, twice as fast as two."""
    return sort_integers((keys << 32).bitwise_or_(carried))


def changes(ordered: Tensor) -> Tensor:
    """(N, P - 1) bool: whether the next item of sorted rows (N, P) is another value."""
    return ordered[:, 1:] != ordered[:, :-1]


def run_starts(changes: Tensor) -> Tensor:
    """(N, P - 1) -> (N, P) int64: first position of the run of equal values around each item of a row with these `changes`."""
    starts = torch.zeros(len(changes), changes.shape[1] + 1, dtype=torch.int64, device=changes.device)
    torch.mul(changes, torch.arange(1, starts.shape[1], device=changes.device), out=starts[:, 1:])
    return starts.cummax(dim=1).values


def tied_pairs(starts: Tensor) -> Tensor:
    """(N,) int64: the pairs of equal values in rows with these starts of runs (N, P)."""
    pixels = starts.shape[1]
    return pixels * (pixels - 1) // 2 - starts.sum(dim=1)


def centred_ranks(values: Tensor) -> Tensor:
    """(N, P) -> (N, P) int64: how many values are smaller less how many are larger; twice the average rank less its mean."""
    ordered, order = _sorted(values)
    change = changes(ordered)
    balance = run_starts(change) - run_starts(change.flip(1)).flip(1)
    return torch.empty_like(order).scatter_(1, order, balance)


def lowest_ranks(values: Tensor) -> tuple[Tensor, Tensor]:
    """(N, P) -> (N, P) int64 ranks from 0, where equal values share the lowest of theirs, and the (N,) pairs of equal values."""
    ordered, order = _sorted(values)
    starts = run_starts(changes(ordered))
    return torch.empty_like(order).scatter_(1, order, starts), tied_pairs(starts)


def _sorted(values: Tensor) -> tuple[Tensor, Tensor]:
    packed = sort_with(order_keys(values), torch.arange(values.shape[1], device=values.device))
    return packed >> 32, packed & 0xFFFFFFFF
