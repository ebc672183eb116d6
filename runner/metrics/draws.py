"""Random draws of the metrics that sample: a key of its own for each."""

from __future__ import annotations

from torch import Tensor

from runner.core import rng
from runner.core.errors import require, require_at_least
from runner.core.grid import Number, exact


def draw_keys(keys: Tensor, stream: int, first: int, count: int) -> Tensor:
    """(n * count,) keys of draws first .. first+count-1 of each of (n,) keys; they do not depend on the passes."""
    return rng.bits(rng.fold(keys, stream), count, first).flatten()


def check_draws(metric: str, samples: int, chunk: int | None) -> None:
    """Refuse numbers below 1."""
    require_at_least(f"metrics.measured.{metric}.samples", samples, 1)
    require_at_least(f"metrics.measured.{metric}.chunk", chunk, 1)


def size_of(key: str, value: Number) -> float:
    """A size above 0, written as 0.2 or 4/255."""
    size = float(exact(value, key))
    require(size > 0, key, value, "a number above 0, such as 0.2 or 4/255")
    return size
