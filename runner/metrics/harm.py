"""Which maps a metric calls worse: what an attack keeps its images by."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from runner.core.errors import ConfigError
from runner.core.types import ContextualMetric, Metric

OBJECTIVE = "objective"
"""The `measure` of an attack that keeps what its own objective calls worst."""


def harm_by(metrics: Mapping[str, Metric | ContextualMetric], measure: str) -> Callable[[Tensor, Tensor], Tensor]:
    """(reference maps, maps) -> (N,): the metric called `measure`, with its sign such that larger is worse.

    Errors: `ConfigError` when there is no such metric, or when it needs more than two maps.
    """
    if measure not in metrics:
        raise ConfigError.choice("attack.measure", measure, [*metrics, OBJECTIVE])
    metric = metrics[measure]
    if isinstance(metric, ContextualMetric):
        plain = [name for name, other in metrics.items() if not isinstance(other, ContextualMetric)]
        raise ConfigError.choice("attack.measure", measure, [*plain, OBJECTIVE])
    sign = -1.0 if metric.direction == "higher" else 1.0
    return lambda reference, other: sign * metric(reference, other)
