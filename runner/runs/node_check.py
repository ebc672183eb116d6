"""Rejects values that nothing else looks at before they are used: parts of nodes, labels, and what a job asks for late."""

from __future__ import annotations

from typing import Any

from runner.core.config import GROUPS
from runner.core.errors import ConfigError, require, unknown_key

REPORT_SETTINGS = ("sweep", "runs", "name")
_NAME = "a name: text, in quotes if it is true, null or a fraction"


def check_nodes(node: Any, key: str) -> None:
    """Reject, at any depth, a `_target_` or `_partial_` that Hydra cannot read, and a label that is no name.

    Errors: `ConfigError` naming the full key.
    """
    for name, item in enumerate(node) if isinstance(node, list) else node.items() if isinstance(node, dict) else ():
        place = f"{key}.{name}" if key else str(name)
        if name == "_target_":
            require(isinstance(item, str), place, item, "the name of a class or function: package.module.name")
        elif name == "_partial_":
            require(isinstance(item, bool), place, item, "true or false")
        elif name == "name" and (key in GROUPS or "_target_" in node):
            require(_named(item), place, item, _NAME)
        elif place == "certificate":
            described = item is None or (isinstance(item, dict) and {"name", "_target_"} <= set(item))
            require(described, place, item, "one of its options, as certificate=NAME, or null")
        check_nodes(item, place)


def check_report(settings: Any) -> None:
    """Reject `report` settings that are unknown or of another type. Errors: `ConfigError`."""
    require(isinstance(settings, dict), "report", settings, f"settings: {', '.join(REPORT_SETTINGS)}")
    for key in sorted(set(settings) - set(REPORT_SETTINGS)):
        raise ConfigError(unknown_key(f"report.{key}", REPORT_SETTINGS))
    for key in ("sweep", "name"):
        value = settings.get(key)
        require(value is None or _named(value), f"report.{key}", value, f"{_NAME}; or null")
    runs = settings.get("runs")
    listed = isinstance(runs, list) and runs != [] and all(isinstance(pattern, str) and pattern for pattern in runs)
    fits = runs is None or (isinstance(runs, str) and runs != "") or listed
    require(fits, "report.runs", runs, "a folder, or a list of folders (globs allowed)")


def check_augmentation(settings: Any) -> None:
    """Reject a `dataset.augmentation` of other keys or types, which is read when a training begins. Errors: `ConfigError`."""
    fits = isinstance(settings, dict) and set(settings) == {"flip", "pad"}
    require(fits, "dataset.augmentation", settings, "{flip: true or false, pad: PIXELS}")
    flip, pad = settings["flip"], settings["pad"]
    require(isinstance(flip, bool), "dataset.augmentation.flip", flip, "true or false")
    whole = isinstance(pad, int) and not isinstance(pad, bool) and pad >= 0
    require(whole, "dataset.augmentation.pad", pad, "a whole number of at least 0")


def check_weights(weights: Any) -> None:
    """Reject a `model.weights` that is no text, which is read when a training begins. Errors: `ConfigError`."""
    named = weights is None or (isinstance(weights, str) and weights != "")
    require(named, "model.weights", weights, "the path of a file, the name of published weights, random, or null")


def _named(value: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return whole or (isinstance(value, str) and value.strip() != "")
