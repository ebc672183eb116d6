"""From a composed config to the objects of a job, and the checks that refuse bad input before any work starts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runner.core.build import build
from runner.core.errors import ConfigError, require, unknown_key
from runner.core.grid import EpsilonGrid
from runner.core.identity import Config
from runner.core.kinds import check_kinds
from runner.core.types import Attack, Attribution, Defense, Explain, Metric
from runner.datasets.base import Dataset
from runner.metrics.reduction import REDUCTIONS, reduce
from runner.tracking import TrackingSettings

LABELS: dict[str, frozenset[str]] = {
    "dataset": frozenset({"name", "shape", "classes", "top_k", "augmentation"}),
    "attack": frozenset({"name", "chunk", "save_images"}),
}
"""Keys of a group that the jobs read themselves; every group has `name`, its label in folders and tables."""

TOP_LEVEL = frozenset(
    {"job", "dataset", "model", "training", "defense", "attribution", "attack", "epsilon", "metrics", "tracking"}
    | {"seed", "seeds", "attack_seed", "examples", "sweep", "report", "device", "threads", "outputs"}
)
METRIC_SETTINGS = ("k", "reduction", "common_noise")
REPORT_SETTINGS = ("sweep", "runs", "name")


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
    nodes = {name: node for name, node in config["metrics"].items() if name not in METRIC_SETTINGS}
    for name, node in nodes.items():
        if not isinstance(node, dict) or "_target_" not in node:
            chosen = [other for other in nodes if other != name]
            raise ConfigError(unknown_key(f"metrics.{name}", [*METRIC_SETTINGS, *chosen]))
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
    require(device.type in ("cpu", "cuda"), "device", name, "auto, cpu, cuda or cuda:N")
    require(
        device.type != "cuda" or torch.cuda.is_available(),
        "device",
        name,
        "auto or cpu: this machine has no usable GPU",
    )
    return device


def check(config: Config) -> None:
    """Build every part that is cheap to build and refuse what cannot work. Errors: `ConfigError`, one line."""
    check_names(config)
    _check_scalars(config)
    _check_metrics(config["metrics"])
    _check_tracking({key: value for key, value in config["tracking"].items() if key != "name"})
    part(config, "training")
    _check_model(config)
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


def check_names(config: Config) -> None:
    """Refuse unknown keys at the top and in `report`, a sweep's name that is no folder, and an unusable `outputs`."""
    for key in sorted(set(config) - TOP_LEVEL):
        raise ConfigError(unknown_key(key, TOP_LEVEL))
    for key in sorted(set(config["report"]) - set(REPORT_SETTINGS)):
        raise ConfigError(unknown_key(f"report.{key}", REPORT_SETTINGS))
    check_sweep(config["sweep"], config["outputs"])


def check_sweep(sweep: object, outputs: object) -> None:
    """Refuse a sweep's name that is no folder name, and a folder of outputs that cannot be made."""
    named = sweep is None or bool(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", str(sweep)))
    require(named, "sweep", sweep, "a name of letters, digits and ._-")
    require(isinstance(outputs, str) and outputs != "", "outputs", outputs, "a folder")
    try:
        Path(str(outputs)).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"outputs={outputs}: must be a folder that can be written ({error.strerror})") from None


def _check_scalars(config: Config) -> None:
    shape = config["dataset"]["shape"]
    good = isinstance(shape, list) and len(shape) == 3 and all(_whole(side, 1) for side in shape)
    require(good, "dataset.shape", shape, "a list of three whole numbers: channels, height, width")
    k, pixels = config["metrics"]["k"], shape[1] * shape[2]
    require(_whole(k, 1) and k <= pixels, "metrics.k", k, f"a whole number from 1 to the {pixels} pixels of an image")
    for key in ("seed", "attack_seed"):
        require(_whole(config[key]), key, config[key], "a whole number of at least 0")
    seeds = config["seeds"]
    listed = isinstance(seeds, list) and all(_whole(seed) for seed in seeds) and len(set(seeds)) == len(seeds) > 0
    require(listed, "seeds", seeds, "a list of different whole numbers of at least 0")
    for key, none in (("examples", "all"), ("threads", "all cores")):
        value = config[key]
        require(value is None or _whole(value, 1), key, value, f"a whole number of at least 1, or null for {none}")
    chunk, save = config["attack"]["chunk"], config["attack"]["save_images"]
    require(_whole(chunk, 1), "attack.chunk", chunk, "a whole number of at least 1")
    require(isinstance(save, bool), "attack.save_images", save, "true or false")
    device_of(config)


def _check_metrics(settings: Config) -> None:
    if settings["reduction"] not in REDUCTIONS:
        raise ConfigError.choice("metrics.reduction", settings["reduction"], REDUCTIONS)
    require(
        isinstance(settings["common_noise"], bool), "metrics.common_noise", settings["common_noise"], "true or false"
    )


def _check_tracking(settings: Config) -> None:
    allowed = [item.name for item in fields(TrackingSettings)]
    for key in sorted(set(settings) - set(allowed)):
        raise ConfigError(unknown_key(f"tracking.{key}", allowed))
    check_kinds(TrackingSettings, settings, "tracking")
    TrackingSettings.read(settings)


def _check_model(config: Config) -> None:
    """Build the model without its weights on the meta device, which takes neither time nor memory."""
    with torch.device("meta"):
        part(without_weights(config), "model")


def without_weights(config: Config) -> Config:
    """The config with `model.weights` set to null, where the model has that key."""
    weights = {"weights": None} if "weights" in config["model"] else {}
    return {**config, "model": {**config["model"], **weights}}


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


def _whole(value: object, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def labels(config: Config, groups: Iterable[str]) -> dict[str, str]:
    """The names of the chosen groups, as they stand in tables and folders."""
    return {group: str(config[group]["name"]) for group in groups}
