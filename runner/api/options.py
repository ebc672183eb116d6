"""Options by name: the nodes of conf/ with their defaults, as the jobs compose them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, UnsupportedValueType

from runner.core.conf import conf, options
from runner.core.config import Config, resolved
from runner.core.errors import ConfigError, one_line
from runner.core.types import ContextualMetric, Metric
from runner.sweeps.composition.loader import SweepLoader

Settings = Mapping[str, Any]
"""Keys of the config (`attack.steps`) and their values; a mapping is merged into what the config has."""

Metrics = Sequence[str] | Mapping[str, Any]
"""Names, or names with the options (a mapping) or the object of each metric."""


MEASURED = ("topk_intersection", "spearman", "kendall", "cosine_distance", "mass_center_shift")
"""The metrics of the default composition."""


def described(groups: Mapping[str, str | Sequence[str]], settings: Settings) -> Config:
    """The config of these options by group, with these settings. Errors: `ConfigError` for a name or key that does not exist."""
    for group, chosen in groups.items():
        for name in [chosen] if isinstance(chosen, str) else chosen:
            if name not in options(group):
                raise ConfigError.choice(group, name, options(group))
    words = (f"{group}={_word(chosen)}" for group, chosen in groups.items())
    config = _loader().load_configuration("config", list(words), RunMode.RUN, from_shell=False)
    for key, value in settings.items():
        _set(config, key, _plain(value))
    return resolved(config)


def chosen_metrics(metrics: Metrics) -> tuple[list[str], dict[str, Any], dict[str, Metric | ContextualMetric]]:
    """The names of the metrics that conf/ describes, their settings, and the metrics given as objects.

    Errors: `ConfigError` for none, and for an object that is no metric.
    """
    asked = dict(metrics) if isinstance(metrics, Mapping) else {name: {} for name in _listed(metrics)}
    if not asked:
        raise ConfigError("metrics=[]: must be at least one metric")
    objects = {name: made for name, made in asked.items() if not isinstance(made, Mapping)}
    for name, made in objects.items():
        if isinstance(made, type) or not isinstance(made, (Metric, ContextualMetric)):
            raise ConfigError(f"metrics.{name}={_type(made)}: must be options, or a metric as in runner.core.types")
    named = [name for name in asked if name not in objects]
    settings = {f"metrics.measured.{name}.{key}": value for name in named for key, value in asked[name].items()}
    return named, settings, objects


def prefixed(group: str, given: Settings) -> dict[str, Any]:
    """Options of one group as keys of the config."""
    return {f"{group}.{key}": value for key, value in given.items()}


def no_options(group: str, given: Settings) -> None:
    """Refuse options beside an object or a function, which has its own. Errors: `ConfigError`."""
    for key, value in given.items():
        raise ConfigError(f"{group}.{key}={value}: must be a field of the object given; only a name takes options")


@cache
def _loader() -> ConfigLoader:
    """A loader of conf/ of its own: Hydra's global one belongs to the caller."""
    Plugins.instance()  # registers the sources of configs, and this project's sweeper and launchers
    path = ConfigSearchPathImpl()
    path.append("hydra", "pkg://hydra.conf")
    path.append("main", f"file://{conf()}")
    path.append("schema", "structured://")
    return SweepLoader(path, OmegaConf.create())


def _set(config: DictConfig, key: str, value: Any) -> None:
    try:
        OmegaConf.update(config, key, value, merge=True)
    except UnsupportedValueType:
        allowed = "a number, text, null, or a list or mapping of them"
        raise ConfigError(f"{key}={_type(value)}: must be {allowed}") from None
    except OmegaConfBaseException as error:
        raise ConfigError(one_line(error)) from None


def _listed(metrics: Sequence[str]) -> Sequence[str]:
    return [metrics] if isinstance(metrics, str) else metrics


def _word(chosen: str | Sequence[str]) -> str:
    return chosen if isinstance(chosen, str) else f"[{','.join(chosen)}]"


def _plain(value: Any) -> Any:
    """Numbers of numpy, paths and tuples as the config holds them."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _type(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else type(value).__name__
