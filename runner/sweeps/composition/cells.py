"""The configs of a sweep's cells from a few Hydra compositions; the rest are assembled from these.

Hydra composes the first cell, and then that cell moved to each other point of one axis. Points of different axes that touch no
common key are independent, so a cell with both has the changes of both; points that touch a common key are composed together. A
point touches the keys whose values change, the keys that its overrides name, and the keys in config files that it adds or
removes. As a check, a sample of the cells is composed by Hydra and compared.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from itertools import combinations

from omegaconf.errors import OmegaConfBaseException

from runner.core.config import Config, resolved
from runner.sweeps.axes import Point, points_of, varying
from runner.sweeps.composition.changes import Changes, Compose, FirstCell, Part
from runner.sweeps.composition.sections import Raw, Resolver, Section, same

COMPARED = 5
"""Cells that Hydra composes too, for comparison."""

log = logging.getLogger(__name__)


def compose_cells(compose: Compose, cells: Sequence[Sequence[str]], zipped: Mapping[str, str]) -> list[Config]:
    """The resolved config of each cell. `zipped` names the axis of each zipped key.

    Errors: the same as composing and resolving the cells one by one.
    """

    def whole(overrides: Sequence[str]) -> Config:
        return resolved(compose(overrides).config)

    points = points_of(cells, zipped)
    if len(cells) <= 1 + sum(len(found) - 1 for found in varying(points).values()) + COMPARED:
        return [whole(overrides) for overrides in cells]
    bulk = _Bulk(FirstCell(compose, points[0]))
    made = [bulk.config(own) or whole(overrides) for own, overrides in zip(points, cells, strict=True)]
    for place in [*random.Random(0).sample(range(1, len(cells) - 1), COMPARED - 1), len(cells) - 1]:
        if not same(made[place], whole(cells[place])):
            log.warning("composing every cell separately, since settings depend on each other: %s", cells[place])
            return [whole(overrides) for overrides in cells]
    return made


class _Bulk:
    """Assembles the cells of one sweep. A cell that fails here is composed by Hydra, which gives the error."""

    def __init__(self, first: FirstCell) -> None:
        self._first, self._resolver = first, Resolver()
        self._meet: dict[frozenset[Part], bool] = {}
        self._merged: dict[tuple[str, frozenset[Part]], Section] = {}

    def config(self, points: Mapping[str, Point]) -> Config | None:
        """The resolved config of a cell; None if anything fails."""
        first = self._first.points
        axes = dict.fromkeys([*first, *points])
        changes = [(axis, points.get(axis, ())) for axis in axes if points.get(axis, ()) != first.get(axis, ())]
        parts = self._independent([frozenset([change]) for change in changes])
        try:
            return None if parts is None else self._resolver.config(self._raw(parts))
        except (OmegaConfBaseException, ValueError):
            return None

    def _independent(self, groups: list[Changes]) -> list[Part] | None:
        """Independent parts: groups that touch a common key are joined. None if a part cannot be composed."""
        while True:
            parts = [part for group in groups if (part := self._first.part(group)) is not None]
            if len(parts) < len(groups):
                return None
            pairs = combinations(range(len(groups)), 2)
            meeting = next((pair for pair in pairs if self._meets(parts[pair[0]], parts[pair[1]])), None)
            if meeting is None:
                return parts
            rest = [group for place, group in enumerate(groups) if place not in meeting]
            groups = [*rest, groups[meeting[0]] | groups[meeting[1]]]

    def _meets(self, one: Part, other: Part) -> bool:
        pair = frozenset((one, other))
        if pair not in self._meet:
            self._meet[pair] = one.meets(other)
        return self._meet[pair]

    def _raw(self, parts: Sequence[Part]) -> Raw:
        """The sections of the first cell, with the changes of independent parts."""
        raw = dict(self._first.raw)
        for name in dict.fromkeys(name for part in parts for name in part.names):
            own = [part for part in parts if name in part.names]
            if len(own) > 1:
                raw[name] = self._merge(name, own)
            elif name in own[0].raw:
                raw[name] = own[0].raw[name]
            else:
                del raw[name]
        return raw

    def _merge(self, name: str, parts: Sequence[Part]) -> Section:
        place = (name, frozenset(parts))
        if place not in self._merged:
            values = (item for part in parts for item in part.values.items())
            self._merged[place] = self._first.changed(name, values)
        return self._merged[place]
