"""Parts of every model: normalisation inside the model, the network, and activations as modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from runner.core.errors import require, require_positive

Activation = Literal["relu", "softplus"]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Shape = Sequence[int]


class Normalise(nn.Module):
    """(images - mean) / std per channel. The numbers are in the config and not part of the state."""

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, mean: Sequence[float], std: Sequence[float]) -> None:
        """One number for all channels, or one per channel. Errors: `ConfigError` for another count or a std of 0."""
        super().__init__()
        for key, values in (("mean", mean), ("std", std)):
            allowed = f"a list of 1 number, or of {channels} (one a channel of dataset.shape)"
            require(len(values) in (1, channels), f"model.{key}", list(values), allowed)
            column = torch.tensor([float(value) for value in values]).reshape(1, -1, 1, 1)
            self.register_buffer(key, column, persistent=False)
        require(all(value > 0 for value in std), "model.std", list(std), "above 0")

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] -> the same shape, normalised."""
        return (images - self.mean) / self.std


class Classifier(nn.Module):
    """Images in [0, 1] (N, C, H, W) -> logits (N, K): `normalise`, then `network`."""

    def __init__(self, normalise: Normalise, network: nn.Module) -> None:
        """Put the two together."""
        super().__init__()
        self.normalise = normalise
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the images."""
        logits: Tensor = self.network(self.normalise(images))
        return logits


def make_activation(kind: Activation, beta: float) -> nn.Module:
    """A fresh activation: `relu`, or `softplus`, log(1 + exp(beta x)) / beta. Errors: `ConfigError`."""
    require_positive("model.beta", beta)
    return nn.ReLU() if kind == "relu" else nn.Softplus(beta=float(beta))


def init_convolutions(network: nn.Module) -> None:
    """He initialisation of every convolution (He et al., "Delving deep into rectifiers", 2015), fan-out form."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
