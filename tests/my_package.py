"""A user's own code, as the comments of conf/model/own.yaml and conf/attribution/own.yaml name it."""

import torch
from torch import Tensor, nn

from runner.core import rng


class MyNet(nn.Module):
    def __init__(self, width: int = 4, channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Conv2d(channels, width, 3, padding=1)
        self.activation = nn.SiLU()
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.activation(self.features(images)).mean(dim=(2, 3)))


def gradient(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = images if images.requires_grad else images.detach().requires_grad_()
        scores = model(leaf).gather(1, targets.unsqueeze(1)).sum()
        return torch.autograd.grad(scores, leaf, create_graph=images.requires_grad)[0]


def my_map(model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor, sigma: float = 0.05) -> Tensor:
    noise = rng.normal(keys, tuple(images.shape[1:])).to(images.dtype)
    return gradient(model, images + sigma * noise, targets)
