"""The axes of a sweep, derived from the overrides of its cells: the keys that vary; zipped keys form one axis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Point = tuple[str, ...]
"""The overrides of a cell on one axis, in order; empty if the cell sets nothing there."""


def key_of(override: str) -> str:
    """`defense.epsilon` of `+defense.epsilon=0.1`."""
    return override.split("=", 1)[0].lstrip("+~")


def zipped_keys(zipped: Mapping[str, Sequence[Mapping[str, Any]]], given: Iterable[str]) -> dict[str, str]:
    """The axis of each zipped key; two zipped axes with a common key are one axis. Keys in `given` are left out."""
    axes: dict[str, str] = {}
    for name, points in zipped.items():
        keys = {str(key) for point in points for key in point} - set(given)
        shared = {axes[key] for key in keys if key in axes}
        axes = {key: name if axis in shared else axis for key, axis in axes.items()} | dict.fromkeys(keys, name)
    return axes


def points_of(cells: Sequence[Sequence[str]], zipped: Mapping[str, str]) -> list[dict[str, Point]]:
    """The point of each cell on each axis that it sets. `zipped` names the axis of a key; other keys are their own axes."""
    split: list[dict[str, Point]] = []
    for overrides in cells:
        points: dict[str, Point] = {}
        for override in overrides:
            axis = zipped.get(key_of(override), key_of(override))
            points[axis] = (*points.get(axis, ()), override)
        split.append(points)
    return split


def varying(cells: Sequence[Mapping[str, Point]]) -> dict[str, list[Point]]:
    """The axes on which cells differ, with their points in order of appearance."""
    names = dict.fromkeys(axis for cell in cells for axis in cell)
    points = {axis: list(dict.fromkeys(cell.get(axis, ()) for cell in cells)) for axis in names}
    return {axis: found for axis, found in points.items() if len(found) > 1}


def label(axis: str, point: Point) -> str:
    """A point as shown in a table row: `madry_l2 epsilon=0.3` for `defense=madry_l2 defense.epsilon=0.3`."""
    own = [text.removeprefix(f"{axis}=").removeprefix(f"{axis}.") for text in point]
    return " ".join(own) or "-"
