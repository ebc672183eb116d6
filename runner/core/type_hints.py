"""Checks config values against the type hints of their target; errors are one line that names the key."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from runner.core.errors import ConfigError

_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    NoneType: "null",
}


def check_types(target: Any, values: Mapping[str, Any], key: str) -> None:
    """Compare plain values with the type hints of a class or function; other types are left to the target.

    Errors: `ConfigError` naming `key.name`, the value, and the expected type or choices.
    """
    hints = hints_of(target)
    for name, value in values.items():
        if name in hints:
            check_type(value, hints[name], f"{key}.{name}")


@cache
def hints_of(target: Any) -> dict[str, Any]:
    """The type hints of a dataclass's fields or of a callable's parameters.

    Errors: `ConfigError` for hints that cannot be read at run time (imports under TYPE_CHECKING).
    """
    takes = target.__init__ if inspect.isclass(target) and not is_dataclass(target) else target
    try:
        return get_type_hints(takes)
    except NameError as error:
        name = f"{target.__module__}.{target.__qualname__}"
        raise ConfigError(f"{name}: its type hints cannot be read ({error}); import that at run time too") from error


def check_type(value: Any, hint: Any, key: str) -> None:
    """Reject a plain value that does not have the hinted type. Errors: `ConfigError` naming `key`."""
    if fits(value, hint):
        return
    if all(get_origin(choice) is Literal or choice is NoneType for choice in _choices(hint)):
        names = [name for choice in _choices(hint) for name in get_args(choice) or ("null",)]
        raise ConfigError.choice(key, value, names)
    if get_origin(hint) in (list, tuple, Sequence) and isinstance(value, list | tuple):
        for index, item in enumerate(value):
            check_type(item, _item(hint), f"{key}.{index}")
    raise ConfigError(f"{key}={value}: must be {words(hint)}")


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value has the hinted type; whole numbers count as numbers, true and false do not."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(fits(value, choice) for choice in get_args(hint))
    if origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple) and all(fits(item, _item(hint)) for item in value)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in get_args(hint))
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    scalar = isinstance(value, str | int | float | list | NoneType)
    return isinstance(value, hint) if hint in _WORDS else not (scalar and _is_described(hint))


def _is_described(hint: Any) -> bool:
    """Whether a config gives such a value as a node of its own: a function, or an object of this project."""
    return get_origin(hint) is Callable or (inspect.isclass(hint) and hint.__module__.startswith("runner."))


def words(hint: Any) -> str:
    """The hinted type in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(words(choice) for choice in arguments))
    if origin in (list, tuple, Sequence):
        return f"a list, each item {words(_item(hint))}"
    if origin in (dict, Mapping):
        return "a mapping of names"
    if origin is Literal:
        return "one of " + ", ".join(str(choice) for choice in arguments)
    if _is_described(hint):
        return f"an option with a _target_: {'a function' if get_origin(hint) is Callable else hint.__name__}"
    return _WORDS.get(hint, getattr(hint, "__name__", str(hint)))


def _choices(hint: Any) -> tuple[Any, ...]:
    """The members of a union; for any other hint, the hint itself."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _item(hint: Any) -> Any:
    """The type of the items of a list."""
    return get_args(hint)[0]
