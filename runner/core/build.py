"""Builds the object that a node of the config describes. The only call to `hydra.utils.instantiate`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from runner.core.errors import ConfigError, NotFiniteError, StoreError, is_disk_error, unknown_key
from runner.core.locate import locate
from runner.core.type_hints import check_types

T = TypeVar("T")
Built = dict[str, Any]
"""Built objects, by group and config node; the many runs of a sweep share a few of them."""

_META = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}


def build(node: DictConfig | Mapping[str, Any], key: str, **extra: Any) -> Any:
    """The object of a config node with a `_target_`; `key` is the node's place in the config, for messages.

    Errors: `ConfigError` for a key that the target does not take, a value of the wrong type, or one that the target rejects.
    """
    container: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node)
    check_node(container, key, set(extra))
    try:
        return instantiate(container, **extra, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ConfigError):
            raise cause from None
        if isinstance(cause, TypeError):
            raise ConfigError(f"{key}: {cause}") from error
        if isinstance(cause, OSError) and not is_disk_error(cause):
            place = f"{key}.root={container['root']}" if container.get("root") else key
            raise ConfigError(f"{place}: cannot be read ({cause})") from error
        if isinstance(cause, StoreError | NotFiniteError):
            raise cause from None
        own = str(container.get("_target_")).startswith("runner.")  # what other code raises is told by who calls it
        if own and isinstance(cause, ValueError | ArithmeticError | LookupError):
            told = (str(cause).strip().splitlines() or [""])[0]
            raise ConfigError(f"{key}: its values cannot be used ({type(cause).__name__}: {told})") from error
        raise


def called(make: Callable[[], T], key: str) -> T:
    """What code of others makes of the values at `key`. Errors: `ConfigError` with the first line of what it raises."""
    try:
        return make()
    except ConfigError:
        raise
    except Exception as error:
        cause = (error.__cause__ or error) if isinstance(error, InstantiationException) else error
        told = (str(cause).strip().splitlines() or [""])[0]
        raise ConfigError(
            f"{key}: it raises {type(cause).__name__}: {told} (HYDRA_FULL_ERROR=1 shows where)"
        ) from error


def check_node(node: Any, key: str, extra: set[str]) -> None:
    """Reject keys that the target, or a nested target, does not take, and values of other types; calls none of them."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            check_node(item, f"{key}.{index}", set())
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        target = locate(str(node["_target_"]), f"{key}._target_")
        if (allowed := _parameters(target)) is not None:
            allowed -= extra
            for name in sorted(set(node) - _META - allowed):
                raise ConfigError(unknown_key(f"{key}.{name}", allowed))
        check_types(target, node, key)
        for name in sorted(_required(target) - extra - set(node)) if not {"_partial_", "_args_"} & set(node) else ():
            raise ConfigError(f"{key}.{name}: cannot be left out; it must have a value, as {key}.{name}=VALUE")
    for name, item in node.items():
        check_node(item, f"{key}.{name}", set())


def _parameters(target: Any) -> set[str] | None:
    """The names that a class or function takes; None if it takes any, or cannot be asked (some of those written in C)."""
    found = _signature(target)
    if found is None or any(parameter.kind is parameter.VAR_KEYWORD for parameter in found):
        return None
    return {parameter.name for parameter in found}


def _required(target: Any) -> set[str]:
    """The names that it must be given."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {one.name for one in _signature(target) or () if one.kind in named and one.default is one.empty}


def _signature(target: Any) -> list[inspect.Parameter] | None:
    try:
        return list(inspect.signature(target).parameters.values())
    except ValueError:
        return None
