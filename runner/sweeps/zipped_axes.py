"""Zipped axes of a sweep: lists of points, each a mapping of keys to values that vary together."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from runner.core.decimals import listed
from runner.core.errors import ConfigError, require

Point = Mapping[str, Any]
Zipped = Mapping[str, Sequence[Point]]


def spread(zipped: Zipped) -> Zipped:
    """The axes with a point for each value of `decimals(...)`. Errors: `ConfigError` for what is no list of mappings."""
    for name, points in zipped.items():
        listed_points = isinstance(points, Sequence) and not isinstance(points, str)
        require(listed_points, f"hydra.sweeper.zipped.{name}", points, "a list of mappings of keys to values")
    return {name: [one for point in points for one in _spread(name, point)] for name, points in zipped.items()}


def joined(cell: list[str], zipped: Zipped, given: set[str]) -> list[list[str]]:
    """The overrides of a cell combined with each point of the axes. Keys in `given` keep their values from the command line."""
    axes = [[_settings(point, given) for point in _fitting(name, points, cell)] for name, points in zipped.items()]
    return [[*cell, *itertools.chain(*points)] for points in itertools.product(*axes)]


def _fitting(name: str, points: Sequence[Mapping[str, Any]], cell: Sequence[str]) -> Sequence[Mapping[str, Any]]:
    """The points of an axis; if the cell names an option (`defense=ssr`), only the points with that option."""
    named = [text.removeprefix(f"{name}=") for text in cell if text.startswith(f"{name}=")]
    if not named:
        return points
    return [point for point in points if _text(point.get(name)) == named[-1]] or [{}]


def _spread(name: str, point: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The point with each value of `decimals(...)`; several such keys give all combinations."""
    if not isinstance(point, Mapping):
        raise ConfigError(f"hydra.sweeper.zipped.{name}: every point must be a mapping of keys to values")
    values = [listed(value, key) if isinstance(value, str) else [value] for key, value in point.items()]
    return [dict(zip(point, chosen, strict=True)) for chosen in itertools.product(*values)]


def _settings(point: Mapping[str, Any], given: set[str]) -> list[str]:
    return [f"{key}={_text(value)}" for key, value in point.items() if key not in given]


def _text(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
