"""From a composed config to the objects of a job, and the checks that refuse bad input before any work starts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from runner.core.build import build
from runner.core.errors import ConfigError, require
from runner.core.grid import EpsilonGrid
from runner.core.identity import Config
from runner.core.types import Attack, Attribution, Defense, Explain, Metric
from runner.datasets.base import Dataset
from runner.metrics.reduction import reduce

LABELS: dict[str, frozenset[str]] = {
    "dataset": frozenset({"name", "shape", "classes", "top_k", "augmentation"}),
    "attack": frozenset({"name", "chunk", "save_images"}),
}
"""Keys of a group that the jobs read themselves; every group has `name`, its label in folders and tables."""

TOP_LEVEL = frozenset(
    {"job", "dataset", "model", "training", "defense", "attribution", "attack", "epsilon", "metrics", "tracking"}
    | {"seed", "seeds", "attack_seed", "examples", "sweep", "report", "device", "threads", "outputs"}
)


def part(config: Config, group: str, **extra: Any) -> Any:
    """The object that a config group describes. Errors: `ConfigError` naming the key."""
    node = {key: value for key, value in config[group].items() if key not in LABELS.get(group, {"name"})}
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


def metrics(config: Config) -> dict[str, Metric]:
    """Every chosen metric by its name."""
    nodes = {name: node for name, node in config["metrics"].items() if isinstance(node, dict)}
    require(bool(nodes), "metrics", "[]", "at least one metric")
    return {name: build(node, f"metrics.{name}") for name, node in nodes.items()}


def explainer(config: Config, attribution: Attribution) -> Explain:
    """The attribution followed by the one reduction of maps (N, C, H, W) to (N, H, W) that everything shares."""
    how = config["metrics"]["reduction"]

    def explain(model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        return reduce(attribution(model, images, targets, keys), how)

    return explain


def harm_of(config: Config, measure: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The metric called `measure`, turned so that larger is worse for the attribution."""
    chosen = metrics(config)
    if measure not in chosen:
        raise ConfigError.choice("attack.measure", measure, [*chosen, "objective"])
    metric = chosen[measure]
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
    require(
        device.type != "cuda" or torch.cuda.is_available(),
        "device",
        name,
        "auto or cpu: this machine has no usable GPU",
    )
    return device


def check(config: Config) -> None:
    """Build every part that is cheap to build and refuse what cannot work. Errors: `ConfigError`, one line."""
    unknown = set(config) - TOP_LEVEL
    if unknown:
        raise ConfigError.choice(sorted(unknown)[0], config[sorted(unknown)[0]], TOP_LEVEL)
    _check_scalars(config)
    defense, attribution, attack = (part(config, group) for group in ("defense", "attribution", "attack"))
    for group, built, kind in (
        ("defense", defense, Defense),
        ("attribution", attribution, Attribution),
        ("attack", attack, Attack),
    ):
        require(
            isinstance(built, kind),
            f"{group}._target_",
            config[group]["_target_"],
            f"{kind.__name__} as in runner.core.types",
        )
    _check_measure(config, attack)
    _check_attack_fits(config, attack, epsilon_grid(config))


def _check_scalars(config: Config) -> None:
    pixels = config["dataset"]["shape"][-1] * config["dataset"]["shape"][-2]
    k = config["metrics"]["k"]
    require(_whole(k) and 1 <= k <= pixels, "metrics.k", k, f"a whole number from 1 to the {pixels} pixels of an image")
    require(_whole(config["seed"]) and config["seed"] >= 0, "seed", config["seed"], "a whole number of at least 0")
    seeds = config["seeds"]
    require(
        isinstance(seeds, list) and len(set(seeds)) == len(seeds) > 0,
        "seeds",
        seeds,
        "a list of different whole numbers",
    )
    require(all(_whole(seed) and seed >= 0 for seed in seeds), "seeds", seeds, "whole numbers of at least 0")
    examples = config["examples"]
    require(
        examples is None or (_whole(examples) and examples >= 1), "examples", examples, "at least 1, or null for all"
    )
    chunk = config["attack"]["chunk"]
    require(_whole(chunk) and chunk >= 1, "attack.chunk", chunk, "a whole number of at least 1")
    threads = config["threads"]
    require(
        threads is None or (_whole(threads) and threads >= 1), "threads", threads, "at least 1, or null for all cores"
    )
    device_of(config)


def _check_measure(config: Config, attack: Any) -> None:
    if attack.measure != "objective":
        harm_of(config, attack.measure)
    else:
        metrics(config)


def _check_attack_fits(config: Config, attack: Any, grid: EpsilonGrid) -> None:
    smooth = config["model"].get("activation") == "softplus"
    if attack.order >= 2 and attack.beta is None and not smooth:
        raise ConfigError(
            f"attack.beta=null: {config['attack']['name']} needs second-order gradients and model.activation="
            f"{config['model'].get('activation', 'relu')} has none; give attack.beta (a softplus twin) or model.activation=softplus"
        )
    unbounded = float("inf") in grid.epsilons()
    require(
        not unbounded or getattr(attack, "update", None) == "adam",
        "epsilon.values",
        "inf",
        "finite unless attack.update=adam",
    )


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def labels(config: Config, groups: Iterable[str]) -> dict[str, str]:
    """The names of the chosen groups, as they stand in tables and folders."""
    return {group: str(config[group]["name"]) for group in groups}
