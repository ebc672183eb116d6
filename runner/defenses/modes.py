"""Evaluation mode inside a training step, and which statistics a batch normalisation then uses.

A cross-entropy in training mode sees a network that is normalised by the batch; a penalty with the running statistics would see
another one, and training exploits the gap: the running statistics drift until the penalty is small, and the network that is
tested is no better than chance (a ResNet-20 under SSR). With the batch's statistics as constants, the weights before a
normalisation only shrink, which ends alike. So inside a training step, penalties see the network that the step's clean images
normalise, with the statistics as functions of the weights: before the passes of a penalty, these images pass as a reference
(virtual batch normalisation, Salimans et al. 2016), unless their cross-entropy has passed them. No image of a penalty depends
on another one.
benchmarks/batchnorm_penalties.md compares the ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MethodType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_INDIFFERENT = (
    nn.Sequential,
    nn.Conv2d,
    nn.Linear,
    nn.ReLU,
    nn.Softplus,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Identity,
)
"""Layers that do the same in training and in evaluation mode."""


@dataclass
class _Step:
    """What the passes of one step share."""

    model: nn.Module
    images: Tensor
    clean: tuple[Tensor, Tensor] | None = None
    """The clean images as a leaf, and their logits, if these are the same in training and in evaluation mode."""
    moments: dict[nn.Module, Moments] = field(default_factory=dict)
    """The statistics of the clean images, by layer."""


_STEP: ContextVar[_Step | None] = ContextVar("the training step", default=None)


@contextmanager
def training_step(model: nn.Module, images: Tensor) -> Iterator[None]:
    """A step on these images (N, C, H, W), with its backward pass, which may repeat passes of the loss."""
    token = _STEP.set(_Step(model, images))
    try:
        yield
    finally:
        _STEP.reset(token)


def clean_logits(model: nn.Module, images: Tensor) -> Tensor:
    """(N, K) logits of the images in training mode; the penalties of the same step share what they can of the pass."""
    step = _of_step(model, images)
    if step is None:
        logits: Tensor = model(images)
        return logits
    if not _same_in_both_modes(model):
        with _noting(step, _normalisations(model)):
            logits = model(images)
        return logits
    return clean_pass(model, images)[1]


def clean_pass(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """The images as a leaf, and their logits, for gradients in the images; keep the graph, which others may share."""
    step = _of_step(model, images)
    if step is not None and step.clean is not None:
        return step.clean
    leaf = images if images.requires_grad else images.detach().requires_grad_(True)
    with torch.enable_grad():
        passed = leaf, model(leaf)
    if step is not None and _same_in_both_modes(model):
        step.clean = passed
    return passed


def _of_step(model: nn.Module, images: Tensor) -> _Step | None:
    """The current step, if it is one of this model on these images."""
    step = _STEP.get()
    return step if step is not None and step.model is model and step.images is images else None


def _same_in_both_modes(model: nn.Module) -> bool:
    """Whether the logits in training mode are known to be those in evaluation mode."""
    own = "runner.models."
    return all(type(module) in _INDIFFERENT or type(module).__module__.startswith(own) for module in model.modules())


def _normalisations(model: nn.Module) -> list[_BatchNorm]:
    """The layers that normalise by the batch."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]


@contextmanager
def _noting(step: _Step, layers: list[_BatchNorm]) -> Iterator[None]:
    """During the pass of the clean images, their statistics are noted."""

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        step.moments[layer] = Moments.of(inputs[0])

    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluating(model: nn.Module, statistics: Literal["reference", "running"] = "reference") -> Iterator[nn.Module]:
    """The model in evaluation mode; on leaving, all is restored. The logits of an image do not depend on the rest of its batch.

    In a training step its batch normalisations take their statistics from the step's clean images; outside of one, and with
    `running`, they are the running ones. Adversaries of the network that is tested take those.
    """
    step, modes, layers = _STEP.get(), {module: module.training for module in model.modules()}, _normalisations(model)
    refer = statistics == "reference" and step is not None and step.model is model and bool(layers)
    undo = _refer(step, layers) if refer and step is not None else None
    model.eval()
    try:
        yield model
    finally:
        for module, training in modes.items():
            module.training = training
        if undo is not None:
            undo()


class _Reference:
    """Before a pass of the network, passes the reference images and notes their statistics. Copies of the network copy it.

    Passes share what is noted: constants always, statistics with a graph only in the network itself, since the passes of a copy
    may be repeated one by one, each with its own graph.
    """

    def __init__(self, step: _Step, layers: list[_BatchNorm]) -> None:
        self.model, self.layers, self.images = step.model, layers, step.images.detach()
        self.first = id(step.model)
        for layer in layers:
            vars(layer)["reference"] = step.moments.get(layer)

    def __call__(self, model: nn.Module, inputs: Any) -> None:
        if self._serves():
            return
        for layer in self.layers:
            vars(layer)["reference"] = None
        self.model.forward(self.images)

    def _serves(self) -> bool:
        """Whether what is noted is right for a pass: constants where nothing is differentiated in the weights, else a graph."""
        noted = [moments for layer in self.layers if (moments := vars(layer).get("reference")) is not None]
        if len(noted) < len(self.layers):
            return False
        graph = any(moments.mean.requires_grad for moments in noted)
        wanted = torch.is_grad_enabled() and any(values.requires_grad for values in self.model.parameters())
        return id(self.model) == self.first if graph else not wanted


def _refer(step: _Step, layers: list[_BatchNorm]) -> Callable[[], None]:
    """Let the layers take statistics from the step's clean images; returns what undoes it."""
    handle = step.model.register_forward_pre_hook(_Reference(step, layers))
    for layer in layers:
        layer.forward = MethodType(_normalise, layer)  # type: ignore[method-assign]

    def undo() -> None:
        handle.remove()
        for layer in layers:
            del layer.forward
            vars(layer).pop("reference", None)

    return undo


def _normalise(layer: Any, values: Tensor) -> Tensor:
    """The layer with the noted statistics; with those of the values, which it notes, if there are none."""
    if vars(layer).get("reference") is None:
        vars(layer)["reference"] = Moments.of(values)
    shape = [1, -1] + [1] * (values.dim() - 2)
    mean, variance = (moment.reshape(shape) for moment in (layer.reference.mean, layer.reference.variance))
    result: Tensor = (values - mean) * (variance + layer.eps).rsqrt()
    if layer.weight is not None:
        result = result * layer.weight.reshape(shape) + layer.bias.reshape(shape)
    return result


class Moments:
    """Mean and variance (C,) of a layer's reference, functions of the weights. A copy of the network begins with none."""

    def __init__(self, mean: Tensor, variance: Tensor) -> None:
        self.mean, self.variance = mean, variance

    @classmethod
    def of(cls, values: Tensor) -> Moments:
        """Those of the values (N, C, ...) that come into the layer."""
        dims = [axis for axis in range(values.dim()) if axis != 1]
        variance, mean = torch.var_mean(values, dims, correction=0)
        return cls(mean, variance)

    def __deepcopy__(self, memo: object) -> None:
        """None: tensors with a graph cannot be copied, and the copy passes its own reference."""
