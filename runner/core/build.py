"""Builds the object that a node of the config describes. The only call to `hydra.utils.instantiate`."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from runner.core.errors import ConfigError, unknown_key
from runner.core.type_hints import check_types

logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # it logs, in several lines, the error that it then raises
_META = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}


def build(node: DictConfig | Mapping[str, Any], key: str, **extra: Any) -> Any:
    """The object of a config node with a `_target_`; `key` is the node's place in the config, for messages.

    Errors: `ConfigError` for a key that the target does not take, a value of the wrong type, or one that the target rejects.
    """
    container: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node)
    _check_keys(container, key, set(extra))
    try:
        return instantiate(container, **extra, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ConfigError):
            raise cause from None
        if isinstance(cause, TypeError):
            raise ConfigError(f"{key}: {cause}") from error
        raise


def _check_keys(node: Any, key: str, extra: set[str]) -> None:
    """Reject keys that the target, or a nested target, does not take; done before any of them is called."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            _check_keys(item, f"{key}.{index}", set())
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        target = _locate(str(node["_target_"]), key)
        parameters = inspect.signature(target).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            allowed = set(parameters) - extra
            for name in sorted(set(node) - _META - allowed):
                raise ConfigError(unknown_key(f"{key}.{name}", allowed))
        check_types(target, node, key)
    for name, item in node.items():
        _check_keys(item, f"{key}.{name}", set())


def _locate(target: str, key: str) -> Any:
    try:
        return get_object(target)
    except Exception as error:
        raise ConfigError(f"{key}._target_={target}: cannot be imported ({error})") from error
