"""Tries a network, and an attribution of it, on two images before any work: on the meta device, which computes nothing.

What cannot run there (code that looks at values) is tried on the CPU, with random weights and images.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from runner.core.attention import twice_differentiable_attention
from runner.core.config import Config
from runner.core.errors import ConfigError
from runner.core.types import Inspecting
from runner.models.twin import has_second_derivative, softplus_twin
from runner.runs.logits import classes_of
from runner.runs.parts import Parts

T = TypeVar("T")
COUNT = 2
"""Images of a trial: one may be too few for a batch normalisation."""


def check_network(config: Config, parts: Parts) -> None:
    """Reject a network that cannot take images of `dataset.shape`, changes them, or gives other than `dataset.classes` logits."""
    name, classes = config["model"]["name"], config["dataset"]["classes"]
    for training in (False, True) if parts.training.epochs > 0 else (False,):

        def count(model: nn.Module, images: Tensor, training: bool = training) -> int:
            return classes_of(model.train(training), images, f"model={name}")

        if (found := _once(config, parts, f"logits {training}", count)) != classes:
            raise ConfigError(f"dataset.classes={classes}: model={name} gives {found} logits")


def check_logits(model: nn.Module, config: Config, images: Tensor) -> None:
    """Reject a network with its weights whose logits for images of the dataset are not finite, or that writes into them."""
    with twice_differentiable_attention(), torch.random.fork_rng(devices=[]):
        classes_of(model.eval(), images, f"model={config['model']['name']}")


def has_gradient(config: Config, parts: Parts) -> bool:
    """Whether the attribution's map has a gradient in the images of this network, as far as a trial can tell.

    Errors: `ConfigError` for an attribution that cannot explain this network.
    """
    attribution = parts.attribution
    if not isinstance(attribution, Inspecting):
        return True
    return _once(config, parts, f"map {json.dumps(config['attribution'], default=repr)}", attribution.inspect)


def has_curvature(config: Config, parts: Parts) -> bool:
    """Whether the network's logits have a second derivative, which an attack on maps without a twin needs."""
    return _once(config, parts, "curvature", has_second_derivative)


def trains_on_one(config: Config, parts: Parts) -> bool:
    """Whether the network can be trained on a single image, which BatchNorm of 1x1 features cannot."""

    def trains(model: nn.Module, images: Tensor) -> bool:
        try:
            model.train()(images[:1])
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            return False
        return True

    return _once(config, parts, "one image", trains)


def check_twin(config: Config, parts: Parts, beta: float) -> None:
    """Reject a `beta` or an activation of which no softplus twin can be made."""

    def passes(model: nn.Module, images: Tensor) -> bool:
        softplus_twin(model, beta)(images)
        return True

    _once(config, parts, f"twin {beta}", passes)


def _once(config: Config, parts: Parts, what: str, trial: Callable[[nn.Module, Tensor], T]) -> T:
    """The result of a trial, which the many runs of a sweep share."""
    place = json.dumps(["trial", what, config["model"], config["dataset"]["shape"]], default=repr)
    if place not in parts.built:
        parts.built[place] = _tried(config, parts, trial)
    found: T = parts.built[place]
    return found


def _tried(config: Config, parts: Parts, trial: Callable[[nn.Module, Tensor], T]) -> T:
    """The result of a trial; its own `ConfigError`, or one that blames the images for any other error on the CPU."""
    model = parts.model_on_meta
    if _device_of(model).type == "meta":
        try:
            return _on(model, config, trial)
        except ConfigError:
            raise
        except Exception:
            model = parts.model_on_cpu
    try:
        return _on(model, config, trial)
    except ConfigError:
        raise
    except Exception as error:
        told = (str(error).strip().splitlines() or [""])[0]
        shape, name = config["dataset"]["shape"], config["model"]["name"]
        raise ConfigError(
            f"dataset.shape={shape}: model={name} cannot take such images: {type(error).__name__}: {told}"
        ) from error


def _on(model: nn.Module, config: Config, trial: Callable[[nn.Module, Tensor], T]) -> T:
    device = _device_of(model)
    with torch.random.fork_rng(devices=[]), device, twice_differentiable_attention():
        torch.manual_seed(0)
        images = torch.rand(COUNT, *config["dataset"]["shape"])
        try:
            return trial(model.eval(), images)
        finally:
            model.eval()


def _device_of(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
