"""The identity of a run: the scientific part of its resolved config.

Timestamps, job numbers, machine settings and the difference from defaults are never part of it. Weights files count by their
content, epsilon grids by their budgets, and floats in a canonical form, so that 0.3 and 0.30000000000000004 are one run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import NoneType
from typing import Any

from runner.core.build import build
from runner.core.config import Config
from runner.core.errors import ConfigError, require, unknown_key
from runner.core.grid import EpsilonGrid
from runner.core.hashing import canonical, digest

MACHINE_KEYS: dict[str, frozenset[str]] = {
    "dataset": frozenset({"root", "folder", "archive", "download", "workers", "in_memory", "cache"}),
    "model": frozenset({"name"}),
    "training": frozenset({"name"}),
    "defense": frozenset({"name"}),
    "attribution": frozenset({"name"}),
    "attack": frozenset({"name", "save_images", "source"}),
    "certificate": frozenset({"name"}),
}
"""Settings that do not change results (where and how fast something is computed), and names, which are only labels. A
dataset's name does count: it distinguishes folders of images."""

ADDED: dict[str, dict[str, Any]] = {
    "attack": {"eot": 1, "converge": None, "converge_cap": 16},
    "dataset": {"background": None, "content": None},
}
"""Keys that were added to a group after runs had been stored, with the value that gives the old behaviour. At that value they
count as absent, so that finished runs stay finished. Add a key here when it is introduced, never later."""

RENAMED = {"runner.training.optimisation.Training": "runner.jobs.optimisation.Training"}
"""New name of a moved `_target_` -> its first name, which counts in ids. Configs may use either."""

CURRENT = {old: new for new, old in RENAMED.items()}

RANDOM = "random"
"""`model.weights` for a network that is attacked as it was initialised. In ids it is null, the same computation."""

SOURCE_KEYS = ("model", "training", "defense", "attribution", "attack", "seed")
"""Keys that may differ between an attack and the run that it takes its images from; examples and budgets are shared."""

_GRID = f"{EpsilonGrid.__module__}.{EpsilonGrid.__qualname__}"

_LEAVES = (str, int, float, NoneType)
"""Checked first: a sweep has a hundred thousand of them, and the check for a `Mapping` is slow."""


def train_identity(config: Config) -> Config:
    """The scientific part of a training: dataset, model, training, defense, seed."""
    part = {key: science(config, key) for key in ("dataset", "model", "training", "defense")}
    part["model"] = _weights_by_content(part["model"])
    return part | {"seed": config["seed"]}


def attack_identity(config: Config) -> Config:
    """The scientific part of an attack: model identity, attribution, attack, epsilon grid, metrics, examples, attack seed."""
    part = {key: science(config, key) for key in ("attribution", "attack", "metrics")}
    if (source := source_of(config)) is not None:
        part["attack"] = {**part["attack"], "source": digest(attack_identity(source))}
    grid = {key: value for key, value in config["epsilon"].items() if key[0] != "_" and key != "name"}
    if config.get("certificate") is not None:
        part["certificate"] = science(config, "certificate")
    return part | {
        "train_id": digest(train_identity(config)),
        "epsilon": _budgets(json.dumps(grid)),
        "examples": config["examples"],
        "attack_seed": config["attack_seed"],
    }


def group_identity(config: Config) -> Config:
    """The scientific part of an attack without its training seed; runs that share it are averaged over seeds."""
    return attack_identity({**config, "seed": None})


@lru_cache(maxsize=256)
def _budgets(grid: str) -> Config:
    found: EpsilonGrid = build({"_target_": _GRID, **json.loads(grid)}, "epsilon")
    return found.identity()


def source_of(config: Config) -> Config | None:
    """The config of the run that an attack takes its images from (`attack.source`); None for an attack that searches itself.

    It is this config changed by the source: an option (a node with a `_target_`) replaces this run's option, single keys
    override its keys, null changes nothing. That run keeps its images and has no certificate.
    Errors: `ConfigError` naming the key.
    """
    stated = config["attack"].get("source")
    if stated is None:
        return None
    require(isinstance(stated, Mapping), "attack.source", stated, "the options of another run, or null")
    for key in sorted(set(stated) - set(SOURCE_KEYS)):
        raise ConfigError(unknown_key(f"attack.source.{key}", SOURCE_KEYS))
    given = {key: value for key, value in stated.items() if value is not None}
    for key, value in given.items():
        fit = key == "seed" or isinstance(value, Mapping)
        require(fit, f"attack.source.{key}", value, f"an option: {key}@attack.source.{key}={value}")
    option = "_target_" in given.get("attack", {})
    require(option, "attack.source.attack", stated.get("attack"), "an attack, as attack@attack.source.attack=topk")
    replaced = {key: _laid_over(config[key], value) for key, value in given.items()}
    replaced["attack"] = {**replaced["attack"], "save_images": True}
    return {**config, **replaced, "certificate": None}


def _laid_over(below: Any, above: Any) -> Any:
    if not isinstance(above, Mapping) or not isinstance(below, Mapping) or "_target_" in above:
        return above
    return {**below, **{key: _laid_over(below.get(key), value) for key, value in above.items()}}


def science(config: Config, group: str) -> Any:
    """A group of the config without its machine settings, and without keys of `ADDED` at their old value."""
    node = _one_mapping(config[group]) if group == "metrics" else config[group]
    added = ADDED.get(group, {})
    left_out = {key for key in added if key in node and canonical(node[key]) == canonical(added[key])}
    return _counted(
        {key: value for key, value in node.items() if key not in left_out | MACHINE_KEYS.get(group, set())}, top=True
    )


def _one_mapping(metrics: Config) -> Config:
    """Settings and chosen metrics in one mapping, as they were when the first ids were made."""
    return {**{key: value for key, value in metrics.items() if key != "measured"}, **metrics["measured"]}


def _counted(value: Any, top: bool = False) -> Any:
    """A value without `chunk` (a machine setting) at any depth, and without the labels of the options inside it."""
    if isinstance(value, _LEAVES):
        return value
    if isinstance(value, Mapping):
        left_out = {"chunk", "name"} if "_target_" in value and not top else {"chunk"}
        counted = {key: _counted(item) for key, item in value.items() if key not in left_out}
        if value.get("_target_") in RENAMED:
            counted["_target_"] = RENAMED[value["_target_"]]
        return counted
    return [_counted(item) for item in value] if isinstance(value, list) else value


def in_current_form(config: Config) -> Config:
    """A config in its current form; stored configs may have old targets, and metrics mixed with their settings."""
    metrics = config.get("metrics", {})
    if "measured" not in metrics:
        measured = {name: node for name, node in metrics.items() if isinstance(node, Mapping)}
        settings = {name: node for name, node in metrics.items() if name not in measured}
        config = {**config, "metrics": {**settings, "measured": measured}}
    return {key: _with_current_targets(value) for key, value in config.items()}


def _with_current_targets(value: Any) -> Any:
    if isinstance(value, _LEAVES):
        return CURRENT.get(value, value) if isinstance(value, str) else value
    if isinstance(value, Mapping):
        return {key: _with_current_targets(item) for key, item in value.items()}
    return [_with_current_targets(item) for item in value] if isinstance(value, list) else value


def _weights_by_content(model: Config) -> Config:
    """The node with a hash for a weights file, and null for random weights, which a model without given weights starts from."""
    weights = model.get("weights")
    if weights == RANDOM:
        return {**model, "weights": None}
    path = Path(str(weights)).expanduser()
    if not weights or not path.is_file():
        return model
    status = path.stat()
    return {**model, "weights": "sha256:" + _content(path.resolve(), status.st_size, status.st_mtime_ns)}


@lru_cache(maxsize=64)
def _content(path: Path, size: int, changed: int) -> str:
    """SHA-256 of a file; cached by size and modification time, since a sweep needs it thousands of times."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
