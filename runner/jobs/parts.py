"""From a composed config to the objects of a job."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from runner.core.build import build
from runner.core.errors import ConfigError, require, unknown_key
from runner.core.grid import EpsilonGrid
from runner.core.identity import Config, unnamed
from runner.core.types import Attribution, Certificate, ContextualMetric, Explain, Metric, Referenced
from runner.datasets.base import Dataset
from runner.metrics.reduction import reduce

LABELS: dict[str, frozenset[str]] = {
    "dataset": frozenset({"name", "shape", "classes", "top_k", "augmentation"}),
    "attack": frozenset({"name", "chunk", "save_images", "source"}),
}
"""Keys of a group that the jobs read themselves; every group has `name`, its label in folders and tables."""

METRIC_SETTINGS = ("k", "reduction", "common_noise")


def part(config: Config, group: str, **extra: Any) -> Any:
    """The object that a config group describes. Errors: `ConfigError` naming the key."""
    node = {key: unnamed(value) for key, value in config[group].items() if key not in LABELS.get(group, {"name"})}
    return build(node, group, **extra)


def dataset(config: Config) -> Dataset:
    """The dataset; the one used last is kept, since an attack and the training before it want the same."""
    return _dataset(json.dumps(config["dataset"], sort_keys=True))


@lru_cache(maxsize=1)
def _dataset(node: str) -> Dataset:
    described = json.loads(node)
    data: Dataset = part({"dataset": described}, "dataset")
    data.check(described["shape"], described["classes"])
    return data


def epsilon_grid(config: Config) -> EpsilonGrid:
    """The budgets, smallest first."""
    grid: EpsilonGrid = part(config, "epsilon")
    return grid


def attribution(config: Config, device: torch.device) -> Attribution:
    """The attribution, with the training images that it compares with, if it does."""
    built: Attribution = part(config, "attribution")
    if not isinstance(built, Referenced):
        return built
    split = dataset(config).training_split()
    available, wanted = len(split), built.references
    require(wanted <= available, "attribution.references", wanted, f"at most the {available} training images")
    return built.with_references(split.batch(range(wanted), device)[0])


def certificate(config: Config) -> Certificate | None:
    """The certificate, None when the group is null."""
    if config.get("certificate") is None:
        return None
    built: Certificate = part(config, "certificate")
    return built


def metrics(config: Config) -> dict[str, Metric | ContextualMetric]:
    """Every chosen metric by its name."""
    nodes = {name: node for name, node in config["metrics"].items() if name not in METRIC_SETTINGS}
    for name, node in nodes.items():
        if not isinstance(node, dict) or "_target_" not in node:
            chosen = [other for other in nodes if other != name]
            raise ConfigError(unknown_key(f"metrics.{name}", [*METRIC_SETTINGS, *chosen]))
    require(bool(nodes), "metrics", "[]", "at least one metric")
    return {name: build(node, f"metrics.{name}") for name, node in nodes.items()}


def explainer(config: Config, attribution: Attribution) -> Explain:
    """The attribution followed by the one reduction of maps (N, C, H, W) to (N, H, W) that everything shares."""
    reduced = reducer(config)

    def explain(model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        return reduced(attribution(model, images, targets, keys))

    return explain


def reducer(config: Config) -> Callable[[Tensor], Tensor]:
    """Maps (N, C, H, W) -> (N, H, W), as `metrics.reduction` says."""
    how = config["metrics"]["reduction"]
    return lambda maps: reduce(maps, how)


def harm_of(config: Config, measure: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The metric called `measure`, turned so that larger is worse for the attribution."""
    chosen = metrics(config)
    if measure not in chosen:
        raise ConfigError.choice("attack.measure", measure, [*chosen, "objective"])
    metric = chosen[measure]
    if isinstance(metric, ContextualMetric):
        plain = [name for name, other in chosen.items() if not isinstance(other, ContextualMetric)]
        raise ConfigError.choice("attack.measure", measure, [*plain, "objective"])
    sign = -1.0 if metric.direction == "higher" else 1.0
    return lambda reference, other: sign * metric(reference, other)


def device_of(config: Config) -> torch.device:
    """`auto` takes a GPU when there is one. Sets the number of CPU threads too, when `threads` says so."""
    if config["threads"]:
        torch.set_num_threads(int(config["threads"]))
    name = str(config["device"])
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device={name}: allowed are auto, cpu, cuda, cuda:N") from None
    require(device.type in ("cpu", "cuda"), "device", name, "auto, cpu, cuda or cuda:N")
    require(
        device.type != "cuda" or torch.cuda.is_available(),
        "device",
        name,
        "auto or cpu: this machine has no usable GPU",
    )
    return device


def without_weights(config: Config) -> Config:
    """The config with `model.weights` set to null, where the model has that key."""
    weights = {"weights": None} if "weights" in config["model"] else {}
    return {**config, "model": {**config["model"], **weights}}


def labels(config: Config, groups: Iterable[str]) -> dict[str, str]:
    """The names of the chosen groups, as they stand in tables and folders."""
    return {group: str(config[group]["name"]) for group in groups}
