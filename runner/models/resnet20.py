"""ResNet-20 for CIFAR (He et al., "Deep residual learning for image recognition", CVPR 2016, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from runner.models.feature_smoothing import feature_smoothing as smoothing_block
from runner.models.parts import Activation, Classifier, Normalise, Shape, init_convolutions, make_activation
from runner.models.weights import load_weights

Shortcut = Literal["A", "B"]


def resnet20(  # noqa: PLR0913  (one parameter a key of the YAML)
    *,
    shape: Shape,
    classes: int,
    shortcut: Shortcut = "A",
    activation: Activation = "relu",
    beta: float = 10.0,
    feature_smoothing: float = 0.0,
    mean: Sequence[float] = (0.5,),
    std: Sequence[float] = (0.5,),
    weights: str | None = None,
) -> nn.Module:
    """Three stages of three blocks with 16, 32 and 64 channels; 269,722 parameters for 10 classes of RGB images.

    Where the shape changes, shortcut A subsamples and pads with zero channels (no parameters), as in the paper; B is a 1x1
    convolution with batch normalisation. `feature_smoothing`: sigma of the smoothing block after the
    first stage; 0 for none.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(shape[0], 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        make_activation(activation, beta),
    ]
    before = 16
    for channels in (16, 32, 64):
        for index in range(3):
            stride = 2 if index == 0 and channels != 16 else 1
            block = Block(before, channels, stride, shortcut)
            block.relu1, block.relu2 = make_activation(activation, beta), make_activation(activation, beta)
            layers.append(block)
            before = channels
        if channels == 16:
            layers += smoothing_block(channels, feature_smoothing)
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))
    init_convolutions(network)
    model = Classifier(Normalise(shape[0], mean, std), network)
    return load_weights(model, weights) if weights else model


class Block(nn.Module):
    """relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)); the caller sets the two activations."""

    relu1: nn.Module
    relu2: nn.Module

    def __init__(self, before: int, channels: int, stride: int, shortcut: Shortcut) -> None:
        """`before` channels in, `channels` out."""
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.Identity()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(before, channels, stride, shortcut)
        self.relu2 = nn.Identity()

    def forward(self, values: Tensor) -> Tensor:
        """(N, before, H, W) -> (N, channels, H / stride, W / stride)."""
        residual = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(values)))))
        result: Tensor = self.relu2(residual + self.shortcut(values))
        return result


class PadShortcut(nn.Module):
    """Shortcut A: every second pixel, and zero channels at the end."""

    def __init__(self, extra: int) -> None:
        """`extra` channels are added."""
        super().__init__()
        self.extra = extra

    def forward(self, values: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C + extra, H / 2, W / 2)."""
        return F.pad(values[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.extra))


def _shortcut(before: int, channels: int, stride: int, kind: Shortcut) -> nn.Module:
    if stride == 1 and before == channels:
        return nn.Identity()
    if kind == "A":
        return PadShortcut(channels - before)
    return nn.Sequential(nn.Conv2d(before, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels))
