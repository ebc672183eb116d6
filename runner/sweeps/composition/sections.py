"""Top-level parts of configs, shared by the cells of a sweep and resolved once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from runner.core.config import Config, resolve

Key = tuple[Any, ...]
"""A place in a config: ("defense", "epsilon")."""

_PLAIN = re.compile(r"\$\{(?:[^${}:]*\}|oc\.env:|(?:oc\.select|found_by):[^${}:]*\})")
"""Interpolations that refer to exactly the key they name, to the mapping they stand in, or to no key; any other may refer to any
part of the config."""

GONE = object()
"""Marks a missing value."""


@dataclass(frozen=True, eq=False)
class Section:
    """The unresolved value of one top-level key; compared by identity."""

    value: Any

    @cached_property
    def interpolations(self) -> str:
        """All texts in it that contain an interpolation."""
        return "\n".join(text for text in _texts(self.value) if "${" in text)


Raw = Mapping[str, Section]


class Resolver:
    """Resolves configs made of sections; each section is resolved once for the same referenced sections."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, tuple[Section, ...]], Any] = {}

    def config(self, raw: Raw) -> Config:
        """The resolved config. Errors: those of `resolve`."""
        return {name: self._one(name, raw) for name in raw}

    def _one(self, name: str, raw: Raw) -> Any:
        needed = _referred(name, raw)
        place = (name, tuple(raw[other] for other in needed))
        if place not in self._known:
            self._known[place] = resolve({other: raw[other].value for other in needed})[name]
        return self._known[place]


def _referred(name: str, raw: Raw) -> list[str]:
    """The name, and every name that its interpolations may refer to, directly or indirectly."""
    found, waiting = {name: None}, [name]
    while waiting:
        section = raw[waiting.pop()]
        if section.interpolations:
            new = [other for other in raw if other not in found and _may_mean(section.interpolations, other)]
            found |= dict.fromkeys(new)
            waiting += new
    return list(found)


@cache
def _may_mean(interpolations: str, name: str) -> bool:
    """Whether one of these interpolations may refer to the top-level key `name`."""
    opaque = interpolations.count("${") > len(_PLAIN.findall(interpolations))
    return opaque or bool(re.search(rf"(?<![\w\]]\.)\b{re.escape(name)}\b", interpolations))


def differences(key: Key, old: Any, new: Any) -> Iterator[tuple[Key, Any]]:
    """(key, new value) for each difference; mappings are compared key by key, lists as a whole."""
    if isinstance(old, dict) and isinstance(new, dict) and old and new:
        for name in {**old, **new}:
            yield from differences((*key, name), old.get(name, GONE), new.get(name, GONE))
    elif not same(old, new):
        yield key, new


def same(one: Any, other: Any) -> bool:
    """Whether two plain values are equal, types included: true is not 1. The order of keys does not matter."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(item, other[name]) for name, item in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one is other or (type(one) is type(other) and repr(one) == repr(other))


def leaves(node: Any, key: Key = ()) -> Iterator[Key]:
    """The keys of all values in nested mappings; an empty mapping counts as a value."""
    if not isinstance(node, dict) or not node:
        yield key
    else:
        for name, item in node.items():
            yield from leaves(item, (*key, name))


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _texts(item)
