"""How a map with channels becomes one value a pixel: one named choice, the same for attacks and metrics."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from runner.core.errors import ConfigError

REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "abs_sum": lambda maps: maps.abs().sum(dim=1),
    "sum_abs": lambda maps: maps.sum(dim=1).abs(),
    "sum": lambda maps: maps.sum(dim=1),
    "abs_max": lambda maps: maps.abs().amax(dim=1),
}
"""abs_sum: sum of |z| over channels (Ghorbani et al., 2019). sum_abs: |sum|. sum: signed. abs_max: max |z|."""


def reduce(maps: Tensor, how: str) -> Tensor:
    """(N, C, H, W) -> (N, H, W), differentiable. Errors: `ConfigError` for an unknown choice of `metrics.reduction`."""
    if how not in REDUCTIONS:
        raise ConfigError.choice("metrics.reduction", how, REDUCTIONS)
    return REDUCTIONS[how](maps)
