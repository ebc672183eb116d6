"""Makes a model of this project of any network: normalisation, activations and weights around it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from runner.models.parts import IMAGENET_MEAN, IMAGENET_STD, Activation, Classifier, Normalise, Shape
from runner.models.twin import replace_activations
from runner.models.weights import load_weights

Scale = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation of the normalisation."""

RANDOM = "random"
"""`model.weights` of a network that is meant to be untrained."""


def wrapped(
    network: nn.Module,
    shape: Shape,
    activation: tuple[Activation | None, float],
    scale: Scale,
    weights: str | None,
) -> nn.Module:
    """Images in [0, 1] to logits: `network` behind its normalisation. An activation of None keeps those of the network."""
    kind, beta = activation
    network = network if kind is None else replace_activations(network, kind, beta)
    model = Classifier(Normalise(shape[0], *scale), network)
    return load_weights(model, weights) if weights and weights != RANDOM else model


def scale_of(mean: Sequence[float] | None, std: Sequence[float] | None, usual: Scale) -> Scale:
    """The mean and std that are given, and the usual ones for None."""
    return (usual[0] if mean is None else mean), (usual[1] if std is None else std)


def imagenet_scale(shape: Shape) -> Scale:
    """ImageNet's mean and std for RGB images, 0.5 for others."""
    return (IMAGENET_MEAN, IMAGENET_STD) if shape[0] == 3 else ((0.5,), (0.5,))


def out_of_place(network: nn.Module) -> nn.Module:
    """The network, its modules no longer overwriting their inputs; attributions need these. Values stay the same."""
    for module in network.modules():
        if getattr(module, "inplace", False) is True:
            setattr(module, "inplace", False)  # noqa: B010  (typed as Tensor | Module)
    return network
