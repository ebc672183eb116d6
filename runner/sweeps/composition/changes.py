"""The first cell of a sweep, and how its config changes at other points of the axes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType, ValueType
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from runner.core.config import unresolved
from runner.core.hashing import plain
from runner.sweeps.axes import Point, key_of
from runner.sweeps.composition.sections import GONE, Key, Raw, Section, differences, same

Layer = tuple[str, str]
"""A config file and its package."""
Changes = frozenset[tuple[str, Point]]
"""(axis, new point) for each axis on which the cell changes."""


class Composed(NamedTuple):
    """A config composed by Hydra, and the keys that each of its files sets."""

    config: DictConfig
    layers: Mapping[Layer, frozenset[Key]]


Compose = Callable[[Sequence[str]], Composed]


@dataclass(frozen=True, eq=False)
class Part:
    """The first cell after some changes: its sections, the new values, and every key that the changes touch."""

    raw: Raw
    values: Mapping[Key, Any]
    touched: frozenset[Key]

    @cached_property
    def names(self) -> frozenset[str]:
        """The top-level keys with new values."""
        return frozenset(key[0] for key in self.values)

    @cached_property
    def within(self) -> frozenset[Key]:
        """The touched keys and all their parents."""
        return frozenset(key[:depth] for key in self.touched for depth in range(1, len(key) + 1))

    def meets(self, other: Part) -> bool:
        """Whether a key touched by one equals, contains, or is inside a key touched by the other."""
        return not (self.touched.isdisjoint(other.within) and other.touched.isdisjoint(self.within))


class FirstCell:
    """The first cell of a sweep, composed by Hydra. Errors: those of Hydra and OmegaConf."""

    def __init__(self, compose: Compose, points: Mapping[str, Point]) -> None:
        self.points, self._compose = points, compose
        composed = compose(_overrides(points))
        self._layers = composed.layers
        self.raw: Raw = {name: Section(value) for name, value in unresolved(composed.config).items()}
        self._parts: dict[Changes, Part | None] = {}

    def part(self, changes: Changes) -> Part | None:
        """The cell after these changes; None if Hydra rejects them."""
        if changes not in self._parts:
            self._parts[changes] = self._set(changes) or self._composed(changes)
        return self._parts[changes]

    def changed(self, name: str, values: Iterable[tuple[Key, Any]]) -> Section:
        """The cell's section of a top-level key, with the new values below that key."""
        root = {name: copy.deepcopy(self.raw[name].value)}
        for key, value in values:
            if key[0] != name:
                continue
            holder: Any = root
            for step in key[:-1]:
                holder = holder[step]
            if value is GONE:
                del holder[key[-1]]
            else:
                holder[key[-1]] = copy.deepcopy(value)
        return Section(root[name])

    def _set(self, changes: Changes) -> Part | None:
        """The part, without Hydra, if all changes set plain values on keys that have plain values; else None."""
        values: dict[Key, Any] = {}
        for axis, point in changes:
            old = self.points.get(axis, ())
            if [*map(key_of, old)] != [*map(key_of, point)]:
                return None
            for before, after in zip(old, point, strict=True):
                key = tuple(key_of(after).split("."))
                values[key] = _plain_value(after)
                if values[key] is GONE or not same(_plain_value(before), self._value(key)):
                    return None
        raw = {**self.raw, **{name: self.changed(name, values.items()) for name in {key[0] for key in values}}}
        return Part(raw, values, frozenset(values))

    def _value(self, key: Key) -> Any:
        node: Any = self.raw[key[0]].value if key[0] in self.raw else GONE
        for step in key[1:]:
            node = node.get(step, GONE) if isinstance(node, dict) else GONE
        return node

    def _composed(self, changes: Changes) -> Part | None:
        try:
            return self._compared(self._compose(_overrides({**self.points, **dict(changes)})), changes)
        except (HydraException, OmegaConfBaseException, ValueError):
            return None

    def _compared(self, composed: Composed, changes: Changes) -> Part:
        new = unresolved(composed.config)
        values = dict(differences((), {name: section.value for name, section in self.raw.items()}, new))
        differing = {key[0] for key in values}
        raw = {name: Section(value) if name in differing else self.raw[name] for name, value in new.items()}
        named = {key_of(text) for axis, point in changes for text in (*point, *self.points.get(axis, ()))}
        touched = {tuple(name.split("@")[0].split("[")[0].split(".")) for name in named} | set(values)
        for layer in set(self._layers) ^ set(composed.layers):
            touched |= composed.layers.get(layer, self._layers.get(layer, frozenset()))
        return Part(raw, values, frozenset(touched))


def _overrides(points: Mapping[str, Point]) -> list[str]:
    return [text for point in points.values() for text in point]


def _plain_value(override: str) -> Any:
    """The value of `key=value` if it is a number, true, false, null or text; GONE for any other override."""
    parsed = OverridesParser.create().parse_override(override)
    simple = parsed.type is OverrideType.CHANGE and parsed.value_type is ValueType.ELEMENT and parsed.package is None
    value = parsed.value() if simple else GONE
    return plain(value) if value is None or isinstance(value, int | float | str) else GONE
