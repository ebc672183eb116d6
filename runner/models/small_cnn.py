"""A small convolutional network for images of 8 to 64 pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from torch import nn

from runner.core.errors import require, require_at_least
from runner.models.feature_smoothing import feature_smoothing as smoothing_block
from runner.models.parts import Activation, Classifier, Normalise, Shape, make_activation
from runner.models.weights import load_weights

Pool = Literal["max", "avg"]
_POOLS: dict[Pool, Callable[[int], nn.Module]] = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}


def small_cnn(  # noqa: PLR0913  (one parameter a key of the YAML)
    *,
    shape: Shape,
    classes: int,
    width: int = 32,
    pool: Pool = "max",
    activation: Activation = "relu",
    beta: float = 10.0,
    feature_smoothing: float = 0.0,
    mean: Sequence[float] = (0.5,),
    std: Sequence[float] = (0.5,),
    weights: str | None = None,
) -> nn.Module:
    """Two 3x3 convolutions of `width` and `2 width` channels, each followed by 2x2 pooling; 4 `width` units; logits.

    `feature_smoothing`: sigma of the smoothing block after the first pooling; 0 for none.
    """
    channels, height, columns = shape
    require(min(height, columns) >= 4, "dataset.shape", list(shape), "at least 4x4 pixels for model=small_cnn")
    require_at_least("model.width", width, 1)
    network = nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        make_activation(activation, beta),
        _POOLS[pool](2),
        *smoothing_block(width, feature_smoothing),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        make_activation(activation, beta),
        _POOLS[pool](2),
        nn.Flatten(),
        nn.Linear(2 * width * (height // 4) * (columns // 4), 4 * width),
        make_activation(activation, beta),
        nn.Linear(4 * width, classes),
    )
    model = Classifier(Normalise(channels, mean, std), network)
    return load_weights(model, weights) if weights else model
