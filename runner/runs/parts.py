"""The objects that a config describes, each built on first use and kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from runner.attributions.own import as_attribution, is_map
from runner.core.build import Built, build, check_node
from runner.core.config import Config, without_labels
from runner.core.device import usable_device
from runner.core.errors import ConfigError, require
from runner.core.grid import EpsilonGrid
from runner.core.locate import locate
from runner.core.types import Attribution, Certificate, ContextualMetric, Defense, Explain, Metric, Referenced
from runner.datasets.base import Dataset
from runner.metrics.harm import harm_by
from runner.metrics.reduction import reduce
from runner.models.finite import not_finite
from runner.runs.identity import RANDOM

LABELS: dict[str, frozenset[str]] = {
    "dataset": frozenset({"name", "content", "shape", "classes", "top_k", "augmentation"}),
    "attack": frozenset({"name", "chunk", "save_images", "source", "converge", "converge_cap"}),
}
"""Keys of a group that are not arguments of its object; every group has `name`, its label in folders and tables."""


class Parts:
    """The objects of one config. Runs with the same `built` share the objects whose config nodes are equal.

    Users must not change these objects; a training copies its defense.
    """

    def __init__(self, config: Config, built: Built, given: Mapping[str, Any] | None = None) -> None:
        self.config, self.built = config, built
        self.given = given or {}
        """Objects by group that replace what the config describes, for callers in Python."""

    @property
    def training(self) -> Any:
        """How the model is fitted, a `runner.training.optimisation.Training`."""
        return self._shared("training")

    @property
    def defense(self) -> Defense:
        """How the model is defended."""
        found: Defense = self._shared("defense")
        return found

    @property
    def attribution(self) -> Attribution:
        """The attribution, without the training images that it may compare with (see `attribution_on`)."""
        if "attribution" in self.given:
            given: Attribution = self.given["attribution"]
            return given
        node = _described(self.config["attribution"], "attribution")
        target = str(node["_target_"])
        if "_partial_" not in node and is_map(locate(target, "attribution._target_")):
            node = {**node, "_partial_": True}  # the map itself, not what makes it
        found = self._build(node, "attribution")
        return found if isinstance(found, Attribution) else as_attribution(found, f"attribution._target_={target}")

    @property
    def attack(self) -> Any:
        """The attack, a `runner.core.attack_types.Attack` with a `measure`: the metric that it makes worse."""
        return self._shared("attack")

    @property
    def grid(self) -> EpsilonGrid:
        """The budgets, smallest first."""
        grid: EpsilonGrid = self._shared("epsilon")
        return grid

    @property
    def certificate(self) -> Certificate | None:
        """The certificate, or None."""
        return None if self.config.get("certificate") is None else self._shared("certificate")

    @cached_property
    def metrics(self) -> dict[str, Metric | ContextualMetric]:
        """The chosen metrics by name."""
        if "metrics" in self.given:
            return dict(self.given["metrics"])
        chosen = self.config["metrics"]["measured"]
        require(bool(chosen), "metrics", "[]", "at least one metric")
        return {name: self._build(node, f"metrics.measured.{name}") for name, node in chosen.items()}

    @property
    def dataset(self) -> Dataset:
        """The dataset; the last one is cached, since an attack and its training use the same."""
        return _dataset(json.dumps(self.config["dataset"], sort_keys=True))

    def check_dataset(self) -> None:
        """Compare the dataset's keys with what its function takes, without reading it. Errors: `ConfigError`."""
        check_node(_described(self.config["dataset"], "dataset"), "dataset", set())

    @property
    def device(self) -> torch.device:
        """The device; `auto` is a GPU if there is one. Errors: `ConfigError` for a device that does not exist."""
        return usable_device(str(self.config["device"]))

    def new_model(self, weights: bool = True) -> nn.Module:
        """A new model, by default with the weights that `model.weights` names. Errors: `ConfigError` if they are not finite."""
        model: nn.Module = build(self._model_node(weights), "model")
        if weights and (found := not_finite(model)) is not None:
            source = self.config["model"].get("weights")
            place = (
                f"model._target_={self.config['model']['_target_']}" if source is None else f"model.weights={source}"
            )
            raise ConfigError(f"{place}: {found}")
        return model

    @property
    def model_on_meta(self) -> nn.Module:
        """The model on the meta device, without memory or weights, for inspection; on the CPU if it cannot be built there."""
        if "model" in self.given:
            return self.model_on_cpu
        try:
            with torch.device("meta"):
                model: nn.Module = self._build(self._model_node(weights=False), "model")
        except Exception:  # code of the user's that looks at values; wrong settings fail on the CPU too
            return self.model_on_cpu
        return model

    @property
    def model_on_cpu(self) -> nn.Module:
        """The model on the CPU with random weights, for inspection; one that was given, as it is."""
        if "model" in self.given:
            given: nn.Module = self.given["model"]
            return given
        node = self._model_node(weights=False)
        place = json.dumps(["model on the CPU", node], default=repr)
        if place not in self.built:
            with torch.random.fork_rng(devices=[]):
                self.built[place] = build(node, "model")
        model: nn.Module = self.built[place]
        return model

    def attribution_on(self, device: torch.device) -> Attribution:
        """The attribution, with its training images if it compares with any. Errors: `ConfigError` if it needs too many."""
        attribution = self.attribution
        if not isinstance(attribution, Referenced):
            return attribution
        split = self.dataset.training_split()
        available, wanted = len(split), attribution.references
        require(wanted <= available, "attribution.references", wanted, f"at most the {available} training images")
        return attribution.with_references(split.batch(range(wanted), device)[0])

    def explainer(self, attribution: Attribution) -> Explain:
        """The attribution followed by the reduction of maps from (N, C, H, W) to (N, H, W)."""
        reduced = self.reducer()

        def explain(model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
            return reduced(attribution(model, images, targets, keys))

        return explain

    def reducer(self) -> Callable[[Tensor], Tensor]:
        """Maps (N, C, H, W) -> (N, H, W), as `metrics.reduction` says."""
        how = self.config["metrics"]["reduction"]
        return lambda maps: reduce(maps, how)

    def harm(self, measure: str) -> Callable[[Tensor, Tensor], Tensor]:
        """(reference maps, maps) -> (N,): the metric called `measure`, with its sign such that larger is worse."""
        return harm_by(self.metrics, measure)

    def _shared(self, group: str) -> Any:
        return self.given[group] if group in self.given else self._build(_described(self.config[group], group), group)

    def _model_node(self, weights: bool) -> Config:
        node = _described(self.config["model"], "model")
        without = "weights" in node and (not weights or node["weights"] == RANDOM)
        return {**node, "weights": None} if without else node

    def _build(self, node: Config, key: str) -> Any:
        place = json.dumps([key, node], default=repr)
        if place not in self.built:
            self.built[place] = build(node, key)
        return self.built[place]


def _described(node: Config, group: str) -> Config:
    """The part of a group's node that describes its object."""
    labels = LABELS.get(group, frozenset({"name"}))
    return {key: without_labels(value) for key, value in node.items() if key not in labels}


@lru_cache(maxsize=1)
def _dataset(node: str) -> Dataset:
    described = json.loads(node)
    data: Dataset = build(_described(described, "dataset"), "dataset")
    data.check(described["shape"], described["classes"])
    if len(data.test) == 0:
        raise ConfigError(
            "dataset: holds no test images; must have some: images in its folder for testing, or a larger share of each class "
            "(dataset.test_fraction, dataset.test_per_class)"
        )
    return data
