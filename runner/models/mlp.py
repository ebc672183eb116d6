"""A multilayer perceptron on the flattened image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from runner.core.errors import require
from runner.models.parts import Activation, Classifier, Normalise, Shape, make_activation
from runner.models.weights import load_weights


def mlp(
    *,
    shape: Shape,
    classes: int,
    widths: Sequence[int] = (256, 128),
    activation: Activation = "relu",
    beta: float = 10.0,
    mean: Sequence[float] = (0.5,),
    std: Sequence[float] = (0.5,),
    weights: str | None = None,
) -> nn.Module:
    """Hidden layers of `widths` units, each followed by the activation; then logits."""
    good = len(widths) > 0 and all(width > 0 for width in widths)
    require(good, "model.widths", list(widths), "a list of at least one number above 0")
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise([math.prod(shape), *widths]):
        layers += [nn.Linear(before, after), make_activation(activation, beta)]
    model = Classifier(Normalise(shape[0], mean, std), nn.Sequential(*layers, nn.Linear(widths[-1], classes)))
    return load_weights(model, weights) if weights else model
