"""ResNet-18 and ResNet-50 as torchvision builds them (He et al., CVPR 2016), for ImageNet or for small images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from runner.core.errors import ConfigError
from runner.core.vision import torchvision
from runner.models.parts import IMAGENET_MEAN, IMAGENET_STD, Activation, Classifier, Normalise, Shape
from runner.models.twin import replace_activations
from runner.models.weights import SUFFIXES, load_state, load_weights

Stem = Literal["imagenet", "cifar"]


def resnet18(
    *,
    shape: Shape,
    classes: int,
    stem: Stem = "imagenet",
    activation: Activation = "relu",
    beta: float = 10.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    weights: str | None = None,
) -> nn.Module:
    """11.7 million parameters for 1000 classes."""
    network = _network("resnet18", shape, classes, stem)
    return _finish(network, shape, (activation, beta), (mean, std), weights, "ResNet18_Weights")


def resnet50(
    *,
    shape: Shape,
    classes: int,
    stem: Stem = "imagenet",
    activation: Activation = "relu",
    beta: float = 10.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    weights: str | None = None,
) -> nn.Module:
    """25.6 million parameters for 1000 classes."""
    network = _network("resnet50", shape, classes, stem)
    return _finish(network, shape, (activation, beta), (mean, std), weights, "ResNet50_Weights")


def _network(builder: str, shape: Shape, classes: int, stem: Stem) -> nn.Module:
    """The bare network. The stem `cifar` keeps the resolution: 3x3 with stride 1, no max-pooling."""
    network: Any = getattr(torchvision().models, builder)(weights=None, num_classes=classes)
    if stem == "cifar":
        network.conv1 = _first(nn.Conv2d(shape[0], 64, 3, padding=1, bias=False))
        network.maxpool = nn.Identity()
    elif shape[0] != 3:
        network.conv1 = _first(nn.Conv2d(shape[0], 64, 7, stride=2, padding=3, bias=False))
    built: nn.Module = network
    return built


def _first(convolution: nn.Conv2d) -> nn.Conv2d:
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution


def _finish(
    network: nn.Module,
    shape: Shape,
    activation: tuple[Activation, float],
    scale: tuple[Sequence[float] | None, Sequence[float] | None],
    weights: str | None,
    catalogue: str,
) -> nn.Module:
    """Activations, normalisation (None: ImageNet's for RGB, 0.5 otherwise) and weights around the bare network."""
    default = (IMAGENET_MEAN, IMAGENET_STD) if shape[0] == 3 else ((0.5,), (0.5,))
    mean, std = (given if given is not None else usual for given, usual in zip(scale, default, strict=True))
    model = Classifier(Normalise(shape[0], mean, std), replace_activations(network, *activation))
    if weights:
        _load(model, weights, catalogue)
    return model


def _load(model: nn.Module, weights: str, catalogue: str) -> None:
    """A torchvision name of the catalogue, or else a path. Errors: `ConfigError` listing the names."""
    names = torchvision().models.__dict__[catalogue].__members__
    if weights in names:
        load_state(model, _fetch(names[weights], weights), weights)
    elif "/" in weights or weights.endswith(SUFFIXES):
        load_weights(model, weights)
    else:
        raise ConfigError.choice("model.weights", weights, [*names, "a path"])


def _fetch(entry: Any, name: str) -> dict[str, Any]:
    try:
        state: dict[str, Any] = entry.get_state_dict(check_hash=True, progress=False)
    except (OSError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"model.weights={name}: cannot be fetched ({reason}); put {entry.url} on this machine and give its path"
        ) from error
    return state
