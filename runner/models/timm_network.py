"""Any classification network of timm (PyTorch Image Models), by name; needs the extra `timm`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from torch import nn

from runner.core.build import called
from runner.core.errors import ConfigError, require
from runner.core.vision import torchvision
from runner.models.parts import Activation, Shape
from runner.models.wrapping import out_of_place, scale_of, wrapped


def timm_network(  # noqa: PLR0913  (one parameter a key of the YAML)
    *,
    shape: Shape,
    classes: int,
    architecture: str,
    args: Mapping[str, Any] | None = None,
    activation: Activation | None = None,
    beta: float = 10.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    weights: str | None = None,
) -> nn.Module:
    """The network as `timm.create_model` builds it for images of `shape`, with random weights or those of a local file.

    A `mean` or `std` of None is that of timm's own `pretrained_cfg` for RGB images, and 0.5 for others.
    Errors: `ConfigError` naming model.architecture, dataset.shape where the network has another fixed size, or model.args.
    """
    library = _timm()
    name = architecture.partition(".")[0]
    if not library.is_model(name):
        raise ConfigError.near("model.architecture", architecture, library.list_models(), "timm")
    given = {"num_classes": classes, "in_chans": shape[0], **(args or {})}
    network = called(lambda: library.create_model(architecture, pretrained=False, **given), "model.args")
    stated: Mapping[str, Any] = network.pretrained_cfg
    size = tuple(stated["input_size"][1:])
    resized = "img_size" in given or not stated.get("fixed_input_size")
    require(resized or tuple(shape[1:]) == size, "dataset.shape", list(shape), _sizes(architecture, shape, size))
    usual = (stated["mean"], stated["std"]) if shape[0] == 3 else ((0.5,), (0.5,))
    return wrapped(out_of_place(network), shape, (activation, beta), scale_of(mean, std, usual), weights)


def _sizes(architecture: str, shape: Shape, size: tuple[int, ...]) -> str:
    wanted = [shape[0], *size]
    return f"{wanted} for model.architecture={architecture} (or give model.args.img_size, where the network takes it)"


def _timm() -> Any:
    torchvision()  # which timm imports
    try:
        return import_module("timm")
    except ImportError as error:
        raise ConfigError(f"model=timm: needs the extra `timm`: pip install '.[timm]' ({error})") from None
