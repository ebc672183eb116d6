"""Kendall's tau-b of two maps, by a batched merge sort on any device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from runner.core.types import Direction
from runner.metrics.ranks import (
    changes,
    in_groups,
    lowest_ranks,
    order_keys,
    run_starts,
    sort_integers,
    sort_with,
    tied_pairs,
)
from runner.metrics.undefined import of_patterns

_SMALL = 3
"""Blocks of 2^3 values are compared pair by pair."""


@dataclass(frozen=True)
class Kendall:
    """(concordant - discordant) / sqrt((pairs - ties in a)(pairs - ties in b)), as `scipy.stats.kendalltau`.

    A constant map has no order, and scipy answers nan: so do two of them here, and one against a varying map gives 0.
    """

    direction: ClassVar[Direction] = "higher"
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    unit: ClassVar[str] = ""

    def __call__(self, reference: Tensor, other: Tensor) -> Tensor:
        """Two (N, H, W) -> (N,) float64 (Knight 1966)."""
        return of_patterns(in_groups(_tau, reference, other), reference, other)


def _tau(first: Tensor, second: Tensor) -> Tensor:
    agreement, untied, other_untied = (counts.double() for counts in pairs(first, second))
    return (agreement / untied.sqrt().clamp_min(1.0) / other_untied.sqrt().clamp_min(1.0)).clamp(-1.0, 1.0)


def pairs(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two (N, P) -> three (N,) int64: concordant minus discordant pairs of pixels, and the pairs without a tie in each map."""
    pixels = first.shape[1]
    other_ranks, other_ties = lowest_ranks(second)
    joint = sort_with(order_keys(first), other_ranks)
    ties, both_ties = (tied_pairs(run_starts(changes(ordered))) for ordered in (joint >> 32, joint))
    every = pixels * (pixels - 1) // 2
    discordant = inversions(joint.bitwise_and_(0xFFFFFFFF))
    return every - ties - other_ties + both_ties - 2 * discordant, every - ties, every - other_ties


def inversions(values: Tensor) -> Tensor:
    """(N, P) int64 in [0, P) -> (N,) int64: pairs i < j with values[i] > values[j], counted while merging halves of blocks.

    A value carries its position in its low bits, one of which says from which half of a block it comes. In the sorted block, an
    item of the right half has moved left by one place for each larger item of the left half.
    """
    rows, pixels = values.shape
    bits = max(_SMALL, (pixels - 1).bit_length())
    places = torch.arange(1 << bits, dtype=torch.int32, device=values.device)
    # the row is filled up with values above all others, in order: they add no pair
    filled = pad(values, (0, len(places) - pixels), value=pixels)
    total = _inversions_of_small_blocks(filled.reshape(rows, -1, 1 << _SMALL))
    # centred, so that up to 2^16 values fit int32, which is sorted twice as fast
    carried = ((filled - (1 << (bits - 1))) << bits | places).to(torch.int32 if bits <= 16 else torch.int64)
    for level in range(_SMALL, bits):
        half = 1 << level
        carried = sort_integers(carried.reshape(rows, -1, 2 * half))
        before = carried.shape[1] * places[half : 2 * half].sum()
        after = ((carried >> level & 1) * places[: 2 * half]).sum(dim=(1, 2))
        total += before - after
    return total


def _inversions_of_small_blocks(blocks: Tensor) -> Tensor:
    """(N, B, S) -> (N,) int64."""
    columns = blocks.permute(2, 0, 1).contiguous()
    counts = [(columns[:right] > columns[right]).sum(dim=(0, 2)) for right in range(1, len(columns))]
    return torch.stack(counts).sum(dim=0)
