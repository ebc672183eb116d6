"""Evaluation mode inside a training step, and which statistics a batch normalisation then uses.

A cross-entropy in training mode sees a network that is normalised by the batch; a penalty with the running statistics would see
another one, and training exploits the gap: the running statistics drift until the penalty is small, and the network that is
tested is no better than chance (a ResNet-20 under SSR). With the batch's statistics as constants, the weights before a
normalisation only shrink, which ends alike. So inside a training step, penalties see the network that the step's clean images
normalise, with the statistics as functions of the weights: before each pass of a penalty, these images pass as a reference
(virtual batch normalisation, Salimans et al. 2016). No image of a penalty depends on another one.
benchmarks/batchnorm_penalties.md compares the ways.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import MethodType
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_STEP: ContextVar[tuple[nn.Module, Tensor] | None] = ContextVar(
    "model and clean images of the training step", default=None
)


@contextmanager
def training_step(model: nn.Module, images: Tensor) -> Iterator[None]:
    """A step on these images (N, C, H, W), with its backward pass, which may repeat passes of the loss."""
    token = _STEP.set((model, images.detach()))
    try:
        yield
    finally:
        _STEP.reset(token)


@contextmanager
def evaluating(model: nn.Module, statistics: Literal["reference", "running"] = "reference") -> Iterator[nn.Module]:
    """The model in evaluation mode; on leaving, all is restored. The logits of an image do not depend on the rest of its batch.

    In a training step its batch normalisations take their statistics from the step's clean images; outside of one, and with
    `running`, they are the running ones. Adversaries of the network that is tested take those.
    """
    step, modes = _STEP.get(), {module: module.training for module in model.modules()}
    layers = [module for module in modes if isinstance(module, _BatchNorm) and module.training]
    refer = statistics == "reference" and step is not None and step[0] is model and bool(layers)
    undo = _refer(model, layers, step[1]) if refer and step is not None else None
    model.eval()
    try:
        yield model
    finally:
        for module, training in modes.items():
            module.training = training
        if undo is not None:
            undo()


class _Reference:
    """Before a pass of the network, passes the reference images and notes their statistics. Copies of the network copy it."""

    def __init__(self, model: nn.Module, layers: list[_BatchNorm], images: Tensor) -> None:
        self.model, self.layers, self.images = model, layers, images

    def __call__(self, model: nn.Module, inputs: Any) -> None:
        for layer in self.layers:
            vars(layer)["reference"] = None
        self.model.forward(self.images)


def _refer(model: nn.Module, layers: list[_BatchNorm], images: Tensor) -> Any:
    """Let the layers take statistics from the images; returns what undoes it."""
    handle = model.register_forward_pre_hook(_Reference(model, layers, images))
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
        dims = [axis for axis in range(values.dim()) if axis != 1]
        vars(layer)["reference"] = Moments(values.mean(dims), values.var(dims, unbiased=False))
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

    def __deepcopy__(self, memo: object) -> None:
        """None: tensors with a graph cannot be copied, and the copy passes its own reference."""
