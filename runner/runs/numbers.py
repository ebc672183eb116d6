"""Rejects numbers of a config that cannot be meant: not finite, or too large to be held."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from runner.core.config import Config
from runner.core.errors import require

LARGEST = 10**12
"""Bound of every number, seeds included: what is derived from a seed, seed * 1,000,003 + n, then fits 64 bits."""

MOST_THREADS = 1024
"""More threads than any machine has cores make torch fail, or crash."""

LARGEST_BATCH = 2**16
"""Twice the largest training batch in use (You et al. 2018, ImageNet in minutes); a larger one must be a typo."""

UNBOUNDED = frozenset({"epsilon.values"})
"""Keys at which infinity has a meaning: the attack without a budget."""


def check_numbers(config: Config) -> None:
    """Refuse nan, infinity (except in `UNBOUNDED`) and whole numbers beyond `LARGEST`, at any depth.

    Errors: `ConfigError` naming the full key.
    """
    for key, value in _leaves(config, ""):
        if isinstance(value, float):
            infinite = math.isinf(value) and key.rsplit(".", 1)[0] in UNBOUNDED
            require(math.isfinite(value) or infinite, key, value, "a finite number")
            require(abs(value) <= LARGEST or infinite, key, value, f"a number of at most {LARGEST} (10^12)")
        elif isinstance(value, int) and not isinstance(value, bool):
            require(abs(value) <= LARGEST, key, value, f"a whole number of at most {LARGEST} (10^12)")


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else None
    if items is None:
        yield key, node
        return
    for name, item in items:
        yield from _leaves(item, f"{key}.{name}" if key else str(name))
