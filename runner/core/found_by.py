"""`key: ${found_by:package.module.function}` in a YAML: what the function finds, unless the user states the key."""

from __future__ import annotations

from typing import Any

from hydra.utils import get_method
from omegaconf import ListConfig, OmegaConf
from omegaconf.base import Container

from runner.core.errors import ConfigError


def register() -> None:
    """Let OmegaConf know the resolver. The function is called with the mapping that the key stands in."""
    OmegaConf.register_new_resolver("found_by", _found_by, replace=True)


def refusal(error: BaseException) -> ConfigError | None:
    """The `ConfigError` of such a function, which OmegaConf wraps; None if there is none."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, ConfigError):
        seen = seen.__cause__ or seen.__context__
    return seen


def _found_by(function: str, *, _parent_: Container) -> Any:
    node: Any = _parent_
    while isinstance(node, ListConfig):
        node = node._get_parent()
    return get_method(function)(node)
