"""Random numbers that depend only on (seed, example, stream, counter), not on batch, order, chunk or device.

Each example has a 64-bit key; its random numbers are the SplitMix64 sequence that starts there (Steele, Lea and Flood, "Fast
splittable pseudorandom number generators", OOPSLA 2014). Any slice of the sequence can be drawn by itself, so drawing noise
samples in chunks changes no bit of them.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift_right(values: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64 (torch shifts arithmetically)."""
    return (values >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _mix(values: Tensor) -> Tensor:
    """The SplitMix64 finaliser, a bijection of 64-bit integers; works on its own copy."""
    values = _shift_right(values, 30).bitwise_xor_(values).mul_(_MIX1)
    values = _shift_right(values, 27).bitwise_xor_(values).mul_(_MIX2)
    return _shift_right(values, 31).bitwise_xor_(values)


def example_keys(seed: int, examples: Tensor | Sequence[int], stream: str = "") -> Tensor:
    """Keys (N,) int64 of examples, given by their numbers in the dataset, for one seed and one named stream."""
    numbers = torch.as_tensor(examples, dtype=torch.int64)
    start = torch.full_like(numbers, (seed * 1_000_003 + zlib.crc32(stream.encode())) & 0x7FFFFFFFFFFFFFFF)
    return _mix(_mix(start).bitwise_xor_(_mix(numbers.mul(_GAMMA))))


def fold(keys: Tensor, number: int) -> Tensor:
    """An independent stream of each key: `fold(keys, step)`, `fold(keys, restart)`, ..."""
    return _mix(keys ^ _mix(torch.tensor((number + 1) * 0x632BE59BD9B4E019 & 0x7FFFFFFFFFFFFFFF, device=keys.device)))


def bits(keys: Tensor, count: int, start: int = 0) -> Tensor:
    """(N, count) random 64-bit integers: items `start` to `start + count - 1` of each key's sequence."""
    counters = torch.arange(start + 1, start + count + 1, dtype=torch.int64, device=keys.device).mul_(_GAMMA)
    return _mix(keys.unsqueeze(-1) + counters)


def uniform(keys: Tensor, shape: Sequence[int], start: int = 0) -> Tensor:
    """(N, *shape) float32, uniform in [0, 1) with 24 random bits; `start` is how many numbers were already drawn."""
    draws = _shift_right(bits(keys, math.prod(shape), start), 40)
    return draws.to(torch.float32).mul_(2.0**-24).reshape(len(keys), *shape)


def normal(keys: Tensor, shape: Sequence[int], start: int = 0) -> Tensor:
    """(N, *shape) float32 standard normal (Box-Muller, two from each 64-bit integer).

    `start` is how many numbers were already drawn. Errors: `ValueError` when it is odd.
    """
    count = math.prod(shape)
    if start % 2:
        raise ValueError(f"start={start}: slices of a normal sequence begin at even positions")
    draws = bits(keys, (count + 1) // 2, start // 2)
    high = _shift_right(draws, 32).to(torch.float32).add_(0.5).mul_(2.0**-32)
    low = draws.bitwise_and_(0xFFFFFFFF).to(torch.float32).mul_(2.0 * math.pi * 2.0**-32)
    radius = high.log_().mul_(-2.0).clamp_min_(0.0).sqrt_()
    pairs = torch.stack((radius * low.cos(), radius * low.sin()), dim=-1)
    return pairs.reshape(len(keys), -1)[:, :count].reshape(len(keys), *shape)
