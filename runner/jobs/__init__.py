"""The jobs: `execute` takes a composed config to the job it names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from runner.core import stopping
from runner.core.cli import refusing
from runner.core.errors import ConfigError
from runner.core.identity import Config, plain


def execute(cfg: DictConfig) -> dict[str, Any]:
    """Run the job of a composed config and return the content of its `result.json`. Errors: `StopRequested` when told to."""
    with refusing(), stopping.listening():
        return run_job(resolved(cfg))


def resolved(cfg: DictConfig) -> Config:
    """The composed config as plain data, without Hydra's own node, with each number in one spelling wherever it is used.

    Errors: `ConfigError` for a missing mandatory value.
    """
    return resolve(stated(cfg))


def stated(cfg: DictConfig) -> Config:
    """The composed config as plain data, without Hydra's own node; interpolations stay as they are written."""
    container = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(container, dict)
    return {str(key): plain(value) for key, value in container.items() if key != "hydra"}


def resolve(config: Config) -> Config:
    """The values that interpolations stand for. Errors: `ConfigError` for a missing mandatory value, OmegaConf's own."""
    for key in _missing(config, ""):
        raise ConfigError(f"{key}=???: must be given, as {key}=VALUE")
    container = OmegaConf.to_container(OmegaConf.create(config), resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _missing(node: Any, key: str) -> Iterator[str]:
    if node == "???":
        yield key
    for name, item in node.items() if isinstance(node, dict) else ():
        yield from _missing(item, f"{key}.{name}" if key else str(name))


def run_job(config: Config) -> dict[str, Any]:
    """Run the job that a resolved config names, and with `rerun` whatever it says of the job and its inputs again."""
    from hydra.utils import get_method

    if isinstance(config.get("rerun"), str | list):
        from runner.jobs.plan import Plan

        config = {**config, "rerun": Plan.of([(config, [])]).replaced()}
    result: dict[str, Any] = get_method(config["job"]["_target_"])(config)
    return result
