"""A composed config as plain data: interpolations resolved, each number written in one way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.core.errors import ConfigError
from runner.core.found_by import refusal, register
from runner.core.hashing import plain

Config = dict[str, Any]
"""A composed config with every interpolation resolved: plain dicts, lists and scalars."""

register()


GROUPS = ("job", "dataset", "model", "training", "defense", "attribution", "attack", "epsilon", "metrics", "tracking")
"""Groups that every composed config has."""

KEYS: dict[str, tuple[str, ...]] = {
    "dataset": ("shape", "classes"),
    "training": ("epochs",),
    "attack": ("chunk", "save_images"),
    "epsilon": ("norm",),
    "metrics": ("k", "reduction", "common_noise"),
}
"""Keys that every option of a group has, besides `name` and `_target_`."""

_BARE = {"metrics": (), "tracking": ("name",)}
"""Groups that describe no object, and which of these two keys they have."""

SETTINGS = ("seed", "seeds", "attack_seed", "examples", "sweep", "report", "device", "threads", "outputs", "rerun")
"""Other keys that every composed config has."""


def resolved(cfg: DictConfig) -> Config:
    """The config without Hydra's own node, resolved. Errors: `ConfigError` for a missing value or group, OmegaConf's own."""
    config = unresolved(cfg)
    refuse_absent(config)
    return resolve(config)


def refuse_absent(config: Config) -> None:
    """Refuse a config that lacks a group, one of its keys or a setting, as `~defense` or a YAML of the user's leaves it.

    Errors: `ConfigError` naming the key.
    """
    if "outputs" not in config and "job" not in config:
        return  # a config of something else than run.py
    for key in GROUPS:
        if not isinstance(config.get(key), dict):
            raise ConfigError(f"{key}: cannot be left out; it must be one of its options, as {key}=NAME")
    for key in SETTINGS:
        if key not in config:
            raise ConfigError(f"{key}: cannot be left out; it must have a value, as {key}=VALUE")
    for group in GROUPS:
        for key in (*_BARE.get(group, ("name", "_target_")), *KEYS.get(group, ())):
            if key not in config[group]:
                raise ConfigError(f"{group}.{key}: cannot be left out; it must have a value, as {group}.{key}=VALUE")


def unresolved(cfg: DictConfig) -> Config:
    """The config without Hydra's own node, with its interpolations unresolved."""
    container = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(container, dict)
    return {str(key): plain(value) for key, value in container.items() if key != "hydra"}


def resolve(config: Config) -> Config:
    """The config with its interpolations resolved. Errors: `ConfigError` for a missing mandatory value, OmegaConf's own."""
    for key in _missing(config, ""):
        raise ConfigError(f"{key}=???: must be given, as {key}=VALUE")
    try:
        container = OmegaConf.to_container(OmegaConf.create(config), resolve=True)
    except OmegaConfBaseException as error:
        raise refusal(error) or error from None
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _missing(node: Any, key: str) -> Iterator[str]:
    if node == "???":
        yield key
    for name, item in node.items() if isinstance(node, dict) else ():
        yield from _missing(item, f"{key}.{name}" if key else str(name))


def without_labels(value: Any) -> Any:
    """A value without the labels of the options in it: the `name` next to each `_target_`, at any depth."""
    if isinstance(value, dict):
        labels = {"name"} if "_target_" in value else set()
        return {key: without_labels(item) for key, item in value.items() if key not in labels}
    return [without_labels(item) for item in value] if isinstance(value, list) else value
