"""Small networks of the kinds that users bring, for images of `found.SHAPE`, in float64 and evaluation mode."""

from collections.abc import Callable

import torch
from found import CLASSES, SHAPE
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS, SIDE = SHAPE[0], SHAPE[1]


class Attention(nn.Module):
    """As timm's: the fused function."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projections, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.projections(tokens).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        return self.output(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    """A ViT with one block as timm has it and one of torch's own."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.patches = nn.Conv2d(CHANNELS, width, 4, stride=4)
        self.positions = nn.Parameter(0.1 * torch.randn(1, (SIDE // 4) ** 2, width))
        self.norm, self.attention = nn.LayerNorm(width), Attention(width)
        self.block = nn.TransformerEncoderLayer(
            width, 2, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.head = nn.Linear(width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        tokens = tokens + self.attention(self.norm(tokens))
        return self.head(self.block(tokens).mean(dim=1))


class ConvNext(nn.Module):
    """A depthwise convolution, a layer norm and an inverted bottleneck with GELU on the residual path."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.stem = nn.Conv2d(CHANNELS, width, 2, stride=2)
        self.depthwise, self.norm = nn.Conv2d(width, width, 3, padding=1, groups=width), nn.LayerNorm(width)
        self.widen, self.activation, self.narrow = nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        values = self.stem(images)
        inner = self.norm(self.depthwise(values).permute(0, 2, 3, 1))
        values = values + self.narrow(self.activation(self.widen(inner))).permute(0, 3, 1, 2)
        return self.head(values.mean(dim=(2, 3)))


class MobileBlock(nn.Module):
    """A convolution with batch normalisation, then a squeeze-and-excitation gate: EfficientNet and MobileNetV3."""

    def __init__(self, activation: Callable[[], nn.Module], gate: Callable[[], nn.Module], width: int = 6) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(CHANNELS, width, 3, padding=1), nn.BatchNorm2d(width), activation())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1), gate())
        self.mix, self.last = nn.Conv2d(width, width, 3, padding=1), activation()
        self.head = nn.Linear(width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        values = self.features(images)
        return self.head(self.last(self.mix(values * self.gate(values))).mean(dim=(2, 3)))


def _leaky() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(CHANNELS, 6, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(6, 6, 3, padding=1), nn.PReLU(6)),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, CLASSES)),
    )


SMOOTH: dict[str, Callable[[], nn.Module]] = {
    "transformer": Transformer,
    "convnext": ConvNext,
    "efficientnet": lambda: MobileBlock(nn.SiLU, nn.Sigmoid),
}
KINKED: dict[str, Callable[[], nn.Module]] = {
    "mobilenet_v3": lambda: MobileBlock(nn.Hardswish, nn.Hardsigmoid),
    "leaky": _leaky,
}


def made(name: str) -> nn.Module:
    """The network with weights that make its logits differ."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = {**SMOOTH, **KINKED}[name]().double()
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight.data.mul_(2.0)
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.2)
                layer.running_var.uniform_(0.5, 2.0)
    return network.eval()
