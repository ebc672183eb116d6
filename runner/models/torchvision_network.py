"""Any classification network of torchvision, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from runner.core.build import called
from runner.core.errors import ConfigError
from runner.core.vision import torchvision
from runner.models.parts import Activation, Shape
from runner.models.wrapping import imagenet_scale, out_of_place, scale_of, wrapped

_WITHOUT_AUXILIARY = {"aux_logits": False, "init_weights": True}
"""In training mode these networks would return several outputs."""
_ARGS = {"googlenet": _WITHOUT_AUXILIARY, "inception_v3": _WITHOUT_AUXILIARY}


def torchvision_network(  # noqa: PLR0913  (one parameter a key of the YAML)
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
    """The network as `torchvision.models.get_model` builds it, with random weights or those of a local file.

    Errors: `ConfigError` naming model.architecture, or model.args for an argument that the network does not take.
    """
    models: Any = torchvision().models
    known = models.list_models(module=models)
    if architecture not in known:
        raise ConfigError.near("model.architecture", architecture, known, "torchvision")
    given = {"num_classes": classes, **_ARGS.get(architecture, {}), **(args or {})}
    network = called(lambda: models.get_model(architecture, weights=None, **given), "model.args")
    return wrapped(
        out_of_place(network), shape, (activation, beta), scale_of(mean, std, imagenet_scale(shape)), weights
    )
